"""`relay replay`: what a journal holds is told again, in the same words and its own time."""

import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from relay.cli import main
from relay.cli.replay import Pace
from relay.events import Checking, Position, Record
from relay.journal import SqliteJournal
from relay.wire.record_json import stamp
from tests.cli.running import relay
from tests.journal.telling import START, Teller

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "relay.db"


def written(path: Path, jobs: str = "abcab", apart: float = 3_600) -> list[Record]:
    """A journal of records that are an hour apart."""
    with closing(SqliteJournal(path)) as journal:
        teller, records = Teller(journal), []
        for job in jobs:
            records += teller.tell(job)
            teller.wait(apart)
    return records


def replayed(capfd: Capture, *arguments: str) -> tuple[int, list[bytes], str]:
    """The exit status, the lines, and what was said."""
    status = main(["replay", "relay.db", "--speed", "0", "--level", "debug", *arguments])
    said = capfd.readouterr()
    return status, said.out.encode().splitlines(), said.err


def test_every_record_is_told_again_byte_by_byte_and_the_file_is_left_as_it_is(path: Path, capfd: Capture) -> None:
    records = written(path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    assert replayed(capfd) == (0, [record.json for record in records], "")
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_one_job_or_several_can_be_told_alone(path: Path, capfd: Capture) -> None:
    records = written(path)

    assert replayed(capfd, "--job", "b") == (0, [records[1].json, records[4].json], "")
    wanted = [record.json for record in records if record.job != "b"]
    assert replayed(capfd, "--job", "c", "--job", "a") == (0, wanted, "")


def test_a_journal_that_is_being_written_can_be_told_up_to_now(path: Path, capfd: Capture) -> None:
    with closing(SqliteJournal(path)) as journal:
        teller = Teller(journal)
        for _ in range(2):
            teller.tell("ab")
            assert replayed(capfd) == (0, [record.json for record in journal.read(0)], "")


def test_more_lines_than_the_console_holds_are_all_told(path: Path, capfd: Capture) -> None:
    with closing(SqliteJournal(path)) as journal:
        records = Teller(journal).tell("abcd" * 6_000)

    assert replayed(capfd) == (0, [record.json for record in records], "")


def test_a_record_that_cannot_be_read_is_left_out_and_said(path: Path, capfd: Capture) -> None:
    records = written(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE records SET body = X'00' WHERE offset = 2")
        connection.commit()

    status, lines, said = replayed(capfd)
    assert (status, lines) == (0, [record.json for record in (records[0], *records[2:])])
    assert said == "relay: the record at offset 2 of relay.db cannot be read, and is left out\n"


def test_of_a_damaged_file_all_is_told_that_comes_before_the_damage(path: Path, capfd: Capture) -> None:
    records = written(path, "a" * 3_000)
    content = bytearray(path.read_bytes())
    middle = content.index(records[2_000].json) // 4096 * 4096
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)

    status, lines, said = replayed(capfd)
    assert status == 2
    assert 1_000 < len(lines) <= 2_000
    assert lines == [record.json for record in records[: len(lines)]]
    assert said.startswith("relay: the journal relay.db is damaged (")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.db"], "there is no journal none.db; name the file of a relay, such as relay.db"),
        (["."], "there is no journal .; name the file of a relay, such as relay.db"),
        (["relay.db", "--job", "z\x1b"], "the journal relay.db holds nothing of a job 'z\\\\x1b'"),
        (["text.db"], "text.db is no journal: it is not even an SQLite database; name another file"),
        (["empty.db"], "empty.db is no journal: it is empty"),
        (["relay.db", "--speed", "-1"], "Invalid value for '--speed': '-1' is not a number from 0.01 to 1000"),
        (["relay.db", "--sink", "mail"], "Invalid value for '--sink': 'mail' is not 'console'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str, path: Path, capfd: Capture) -> None:
    written(path)
    Path("text.db").write_text("text")
    Path("empty.db").touch()

    assert main(["replay", *arguments]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.split("; see relay replay")[0].rstrip("\n") == f"relay: {line}"


@pytest.mark.parametrize(("speed", "pauses"), [(1.0, [0, 5, 0, 2.5]), (10.0, [0, 0.5, 0, 0.25]), (0.0, [0, 0, 0, 0])])
def test_records_come_as_far_apart_as_they_were_divided_by_the_speed(speed: float, pauses: list[float]) -> None:
    times = [START + timedelta(seconds=seconds) for seconds in (0, 5, 4, 6.5)]
    records = [stamp("a", n, at, Checking(attempt=n, of=9), Position("e", n)) for n, at in enumerate(times, 1)]

    pace = Pace(speed)
    assert [pace.pause(record) for record in records] == pauses


def test_an_interrupted_replay_has_status_130(path: Path, tmp_path: Path) -> None:
    records = written(path)
    with relay("replay", "relay.db", folder=tmp_path, piped=True) as process:
        assert process.prints() == records[0].json.decode() + "\n"
        process.interrupt()
        assert process.ends() == 130
        assert process.printed == []
    assert process.said == []


def test_it_ends_when_nobody_reads_it_any_more(path: Path, tmp_path: Path) -> None:
    records = written(path, "ab" * 5_000, apart=0)
    with relay("replay", "relay.db", "--speed", "0", folder=tmp_path, piped=True) as process:
        assert process.prints() == records[0].json.decode() + "\n"
        process.stop_reading()
        assert process.ends() == -signal.SIGPIPE
    assert process.said == []
