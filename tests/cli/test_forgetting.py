"""`relay sinks --forget`: a sink that is gone for good holds up the journal no longer."""

from contextlib import closing
from pathlib import Path

import pytest

from relay.cli import main
from relay.journal import SqliteJournal
from tests.journal.telling import Teller

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capture: Capture, *arguments: str, status: int = 0) -> str:
    assert main(["sinks", *arguments]) == status
    output = capture.readouterr()
    assert output.out == ""
    return output.err.removeprefix("relay: ").rstrip()


def test_the_cursor_and_all_that_waits_for_it_is_dropped(here: Path, capsys: Capture) -> None:
    with closing(SqliteJournal(here / "relay.db")) as journal:
        for name in ("billing", "other"):
            journal.cursors.claim(name, 0)
        records = Teller(journal).tell("abc")
        journal.parking.park("billing", records[:1], due=0.0)
    assert said(capsys, "--forget", "billing") == (
        "billing was 3 records behind, and is forgotten; a sink of that name begins with the next record"
    )
    with closing(SqliteJournal(here / "relay.db")) as journal:
        assert [cursor.name for cursor in journal.cursors.all()] == ["other"]
        assert journal.parking.waiting("billing") == 0
    assert said(capsys, "--forget", "othr", status=2) == (
        "the journal relay.db has no cursor called 'othr'; did you mean 'other'?"
    )


def test_a_relay_that_runs_keeps_its_cursors(here: Path, capsys: Capture) -> None:
    with closing(SqliteJournal(here / "relay.db")) as journal:
        journal.cursors.claim("billing", 0)
        Teller(journal).tell("a")
        assert said(capsys, "--forget", "billing", status=2) == (
            "the journal relay.db is in use by another relay; stop that one, or name another file"
        )
        assert [cursor.name for cursor in journal.cursors.all()] == ["billing"]


def test_without_a_journal_there_is_no_cursor(here: Path, capsys: Capture) -> None:
    assert said(capsys, "--forget", "billing", status=2) == "there is no journal relay.db yet, and so no cursor"
    assert not (here / "relay.db").exists()
    for url, place in (("memory:", "memory"), ("redis://127.0.0.1", "Redis")):
        (here / "relay.toml").write_text(f'[journal]\nurl = "{url}"\n')
        assert said(capsys, "--forget", "billing", status=2) == (
            f"a journal in {place} keeps no cursors; they are in one such as sqlite:relay.db"
        )
