"""A project that installs the relay has `check_sink` as a fixture, and pays nothing for it where it is not used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import io

def good(record):
    pass

def slow(record):
    import time
    time.sleep(1)

def test_a_good_one(check_sink):
    out = io.StringIO()
    report = check_sink(lambda record: print(record.event.text, file=out), output=lambda: out.getvalue().encode())
    assert "once" in report.kept

def test_a_slow_one(check_sink):
    check_sink(slow)

def test_without():
    pass
"""


def run(project: Path, *options: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options, str(project)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_sinks.py").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--numprocesses", "1"]], ids=["alone", "xdist"])
def test_the_fixture_checks_a_sink_and_the_summary_lists_what_was_not_exercised(
    project: Path, options: list[str]
) -> None:
    status, out = run(project, *options)
    assert status == 1
    assert "1 failed, 2 passed" in out
    assert "slow breaks the law 'waits': it waits on the 'accepted' record (job_sample_1 seq 1), in time.sleep" in out
    summary = out.partition("= laws of sinks =")[2]
    assert re.search(r"keeps [0-9]+ laws; [0-9]+ were not exercised:", summary)
    assert "down" in summary


def test_it_can_be_turned_off(project: Path) -> None:
    status, out = run(project, "-p", "no:progress_relay")
    assert status == 1
    assert "fixture 'check_sink' not found" in out
    assert "laws of sinks" not in out


def test_a_run_that_does_not_use_it_loads_pytest_alone() -> None:
    program = (
        "import sys, pytest; before = set(sys.modules); import relay.testing.pytest_plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "['relay', 'relay._exports', 'relay.testing', 'relay.testing.pytest_plugin']\n"
