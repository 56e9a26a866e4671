"""The package of the how-to is complete: it is built, installed, listed, configured, and passes its own tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/relay-sink-syslog"


def python(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> str:
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    ran = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environ, cwd=cwd, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed in, from a wheel, without an index."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")
    offline = ("--no-deps", "--no-index", "--quiet")
    python("-m", "pip", "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    (wheel,) = folder.glob("*.whl")
    python("-m", "pip", "install", *offline, "--target", str(folder / "site"), str(wheel))
    return folder / "site"


def test_it_is_listed_with_its_keys(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(python("-m", "relay", "sinks", "--format", "json", path=installed, cwd=tmp_path))
    (syslog,) = [kind for kind in listed["kinds"] if kind["kind"] == "syslog"]
    assert (syslog["source"], syslog["package"], syslog["problem"]) == ("package", "relay-sink-syslog 1.0.0", None)
    assert {key["name"]: key["default"] for key in syslog["keys"]} == {
        "host": '"127.0.0.1"',
        "port": "514",
        "level": '"info"',
    }
    text = python("-m", "relay", "sinks", path=installed, cwd=tmp_path)
    assert "syslog  (from the package relay-sink-syslog 1.0.0)\n    Sends each record as one datagram" in text


def test_it_is_configured_by_its_kind(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "syslog"\nport = 5514\nlevel = "warning"\n')
    program = (
        "from pathlib import Path; from relay.cli.options import load_settings\n"
        "from relay.cli.build import build_sinks\n"
        "(one,) = build_sinks(load_settings(Path('relay.toml'), {})); print(repr(one.sink), one.level)"
    )
    assert python("-c", program, path=installed, cwd=tmp_path) == "SyslogSink('127.0.0.1', 5514) warning\n"


def test_a_mistake_in_its_keys_is_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "syslog"\nprot = 5514\n')
    program = (
        "from pathlib import Path; from relay import ConfigError; from relay.cli.options import load_settings\n"
        "from relay.cli.build import build_sinks\n"
        "try: build_sinks(load_settings(Path('relay.toml'), {}))\n"
        "except ConfigError as error: print(error)"
    )
    said = python("-c", program, path=installed, cwd=tmp_path)
    assert said == "sink relay_sink_syslog:SyslogSink has an unknown key 'prot'; did you mean 'port'?\n"


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    out = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", path=installed, cwd=tmp_path)
    assert "3 passed" in out
