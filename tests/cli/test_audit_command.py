"""`relay audit`: status 0 and one line, or status 1 and one line a finding."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.cli import main
from relay.events import Checking, Position
from relay.wire.record_json import stamp
from sinks.sse import frame, line

RECORDS = [
    stamp("job_a", seq, datetime(2026, 1, 1, tzinfo=UTC), Checking(attempt=seq, of=50), Position("e", seq))
    for seq in range(1, 31)
]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "console.jsonl").write_bytes(b"".join(map(line, RECORDS)))
    (tmp_path / "stream.sse").write_bytes(b"".join(map(frame, RECORDS)))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_recordings_of_the_same_story_are_said_to_be_that(capsys: Capture) -> None:
    assert main(["audit", "console.jsonl", "stream.sse"]) == 0
    assert capsys.readouterr() == ("2 recordings hold the same story: 1 job, 30 records\n", "")


def test_where_they_part_is_said_a_line_a_finding(folder: Path, capsys: Capture) -> None:
    (folder / "console.jsonl").write_bytes(b"".join(map(line, RECORDS[:4] + RECORDS[5:])))
    assert main(["audit", "console.jsonl", "stream.sse"]) == 1
    said = "job_a seq 5: stream.sse says checking 'checking (5 of 50)', console.jsonl says nothing\n"
    assert capsys.readouterr() == (said, "")


def test_many_findings_are_cut_and_counted(folder: Path, capsys: Capture) -> None:
    (folder / "console.jsonl").write_bytes(line(RECORDS[0]))
    assert main(["audit", "console.jsonl", "stream.sse"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (21, "... and 9 more findings")


@pytest.mark.usefixtures("folder")
def test_a_job_that_neither_tells_of_is_a_mistake(capsys: Capture) -> None:
    assert main(["audit", "console.jsonl", "stream.sse", "--job", "job_a"]) == 0
    assert main(["audit", "console.jsonl", "stream.sse", "--job", "job_b"]) == 2
    assert capsys.readouterr().err == "relay: no recording holds a record of job_b\n"


def test_an_empty_recording_is_a_mistake(folder: Path, capsys: Capture) -> None:
    (folder / "stream.sse").write_bytes(b"")
    assert main(["audit", "console.jsonl", "stream.sse"]) == 2
    assert capsys.readouterr() == ("", "relay: stream.sse holds no record\n")


def test_what_is_no_recording_is_a_mistake(folder: Path, capsys: Capture) -> None:
    (folder / "stream.sse").write_bytes(b"<!doctype html>\n")
    assert main(["audit", "console.jsonl", "stream.sse"]) == 2
    assert capsys.readouterr().err.startswith("relay: stream.sse: line 1 is neither")
