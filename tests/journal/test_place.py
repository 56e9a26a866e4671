"""The files of a journal by name: private, locked, and written anew where another program takes them away."""

import math
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import closing, suppress
from pathlib import Path

import pytest

from relay import Relay
from relay.bus import upkeep
from relay.errors import JournalError
from relay.events import Record
from relay.journal import SqliteJournal, _file, _place
from relay.testing import ManualClock
from tests.journal.telling import Teller
from tests.relay.scripted import RUNNING, OneStep, story

FILES = ["relay.db", "relay.db-lock", "relay.db-shm", "relay.db-wal"]
ANEW = "was deleted, moved, replaced or emptied while in use, and was written anew in its place"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder / "relay.db"


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def journal(path: Path, notices: list[str]) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path, notify=notices.append)) as journal:
        yield journal


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_every_file_of_a_journal_is_its_users_alone_whatever_the_umask(journal: SqliteJournal, path: Path) -> None:
    Teller(journal).tell("a")
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == dict.fromkeys(
        FILES, "0o600"
    )
    path.unlink()
    commit(journal)
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == dict.fromkeys(
        FILES, "0o600"
    )


@pytest.mark.parametrize("ending", ["", "-lock"])
def test_a_file_that_everybody_may_read_is_said_at_the_start_and_left_as_it_is(path: Path, ending: str) -> None:
    notices: list[str] = []
    SqliteJournal(path).close()
    file = path.with_name(f"relay.db{ending}")
    file.chmod(0o644)
    SqliteJournal(path, notify=notices.append).close()

    assert notices == [
        f"everybody on this machine may read the journal, and with it what is secret in it: chmod 600 {file}"
    ]
    assert file.stat().st_mode & 0o777 == 0o644
    file.chmod(0o640)
    SqliteJournal(path, notify=notices.append).close()
    assert len(notices) == 1, "a group is what an operator has chosen"


def commit(journal: SqliteJournal) -> int:
    """Commit as a bus does, again and again; return how often it could not be."""
    for tries in range(1_000):
        try:
            journal.commit()
        except JournalError:
            assert journal._file._copy is not None
            wait([journal._file._copy])
        else:
            return tries
    raise AssertionError("it was never written")


def after_a_kill(path: Path, elsewhere: Path) -> list[Record]:
    """What a relay finds that is started at this moment, after this one was killed."""
    elsewhere.mkdir()
    for name in ("relay.db", "relay.db-wal"):
        with suppress(FileNotFoundError):
            shutil.copy(path.with_name(name), elsewhere / name)
    with closing(SqliteJournal(elsewhere / "relay.db", notify=lambda _: None)) as journal:
        assert len(journal.recover()) == len({record.job for record in journal.read(0, limit=10_000)})
        return list(journal.read(0, limit=10_000))


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def delete_the_log(path: Path) -> None:
    path.with_name("relay.db-wal").unlink()


def delete_what_is_shared(path: Path) -> None:
    path.with_name("relay.db-shm").unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def move_and_link(path: Path) -> None:
    move(path)
    path.symlink_to("elsewhere.db")


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()


def replace_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def replace_by_another_journal_with_its_log(path: Path) -> None:
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", path.with_name(f"copy{ending}"))
    for ending in ("", "-wal"):
        path.with_name(f"copy{ending}").rename(f"{path}{ending}")


def replace_by_text(path: Path) -> None:
    path.unlink()
    path.write_text("a note")


AWAY: list[Callable[[Path], None]] = [
    delete,
    delete_all,
    delete_the_log,
    delete_what_is_shared,
    move,
    move_and_link,
    move_the_folder,
    replace_by_a_copy,
    replace_by_another_journal_with_its_log,
    replace_by_text,
]


@pytest.mark.parametrize("away", AWAY)
def test_where_a_file_is_taken_away_the_journal_is_written_anew_and_loses_nothing(
    journal: SqliteJournal, path: Path, tmp_path: Path, notices: list[str], away: Callable[[Path], None]
) -> None:
    teller = Teller(journal)
    records = teller.tell("abc" * 100)
    records += teller.tell("abc")
    for turn in range(2):
        away(path)
        records.append(teller.say("a"))
        commit(journal)
        records += teller.tell("bc")

        assert after_a_kill(path, tmp_path / f"killed{turn}") == records
        assert (journal.read(0, limit=1_000), journal.head) == (records, len(records))
        if away is move_the_folder:
            shutil.rmtree(tmp_path / "moved")
    journal.close()
    with closing(SqliteJournal(path)) as again:
        assert again.read(0, limit=1_000) == records
    assert len(notices) == 2
    assert all(f"the journal {path} {ANEW}" in notice for notice in notices)


@pytest.mark.parametrize("away", [replace_by_text, replace_by_another_journal_with_its_log])
def test_what_was_put_in_place_of_the_journal_is_moved_aside_and_said(
    journal: SqliteJournal, path: Path, notices: list[str], away: Callable[[Path], None]
) -> None:
    Teller(journal).tell("ab")
    for number in (1, 2):
        away(path)
        found = path.read_bytes()
        commit(journal)
        aside = path.with_name(f"relay.db.found-{number}")
        assert aside.read_bytes() == found
        assert notices[-1] == f"the journal {path} {ANEW}; the files found there are now {aside}; nothing is lost"


@pytest.mark.parametrize("away", AWAY)
def test_it_is_noticed_also_where_nothing_is_written_and_at_the_end(
    journal: SqliteJournal, path: Path, tmp_path: Path, away: Callable[[Path], None]
) -> None:
    records = Teller(journal).tell("ab")
    away(path)
    while True:
        try:
            journal.check()
        except JournalError:
            continue
        break
    assert after_a_kill(path, tmp_path / "killed") == records
    if away is move_the_folder:
        shutil.rmtree(tmp_path / "moved")
    away(path)
    journal.close()
    with closing(SqliteJournal(path, notify=lambda _: None)) as again:
        assert again.read(0) == records


def settle(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last change of the folder be so long ago that its time stamp is relied on."""
    monkeypatch.setattr(_place, "SETTLED", 0.02)  # longer than the clocks of file systems take for a step
    place = journal._file._place
    place._trusted_from = 0.0
    while not place.is_untouched():
        journal.check()


@pytest.mark.parametrize("away", AWAY)
def test_it_is_noticed_also_where_the_folder_had_not_changed_for_long(
    journal: SqliteJournal,
    path: Path,
    tmp_path: Path,
    notices: list[str],
    away: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teller = Teller(journal)
    records = teller.tell("ab")
    for turn in range(2):
        settle(journal, monkeypatch)
        away(path)
        records.append(teller.say("a"))
        commit(journal)
        assert after_a_kill(path, tmp_path / f"killed{turn}") == records
        if away is move_the_folder:
            shutil.rmtree(tmp_path / "moved")
    assert len(notices) == 2
    assert all(ANEW in notice for notice in notices)


def test_a_folder_with_the_times_that_it_had_before_is_another_one(
    journal: SqliteJournal, path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `rsync -a` restores it, which gives the folder its former time of modification."""
    Teller(journal).tell("ab")
    settle(journal, monkeypatch)
    before = path.parent.stat()
    delete_the_log(path)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    commit(journal)
    assert len(notices) == 1
    assert ANEW in notices[0]


def test_a_folder_that_has_just_changed_is_not_trusted(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(journal, monkeypatch)
    monkeypatch.setattr(_place, "SETTLED", math.inf)
    Teller(journal).tell("ab")
    assert journal._file._place.is_untouched(), "what was noted before still holds"
    journal._file._place.note()
    journal.check()
    assert not journal._file._place.is_untouched()


def test_a_lock_that_is_taken_anew_again_and_again_leaves_no_descriptor_open(
    journal: SqliteJournal, path: Path
) -> None:
    Teller(journal).tell("ab")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        path.with_name("relay.db-lock").unlink()
        journal.check()

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_change_that_has_the_time_stamp_of_the_one_before_is_noticed_however_coarse_those_are(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Teller(journal).tell("ab")
    place, now = journal._file._place, path.parent.stat().st_ctime
    monkeypatch.setattr(place, "folder", lambda: (1, 2, round(now * 1e9)))
    monkeypatch.setattr(_place, "time", lambda: now + 1.0)
    journal.check()
    delete_the_log(path)
    monkeypatch.setattr(_place, "time", lambda: now + 10.0)

    assert not place.is_untouched()
    assert not place.is_kept()


def test_a_file_in_place_of_the_journal_is_noticed_also_where_its_folder_does_not_show_it(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(journal, monkeypatch)
    place, before = journal._file._place, journal._file._place.folder()
    replace_by_a_copy(path)
    monkeypatch.setattr(place, "folder", lambda: before)

    assert not place.is_untouched()


def test_a_clock_that_was_set_back_behind_the_last_change_makes_the_folder_one_that_is_not_trusted(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next change might get the time stamp of that one."""
    settle(journal, monkeypatch)
    changed = path.parent.stat().st_ctime
    monkeypatch.setattr(_place, "time", lambda: changed - 1.0)

    assert not journal._file._place.is_untouched()


def test_while_it_cannot_be_written_anew_records_wait_and_it_says_why(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "COPY_AGAIN_AFTER", 0.0)
    teller = Teller(journal)
    records = [*teller.tell("ab")]
    shutil.rmtree(path.parent)
    records.append(teller.say("a"))
    for _ in range(2):
        with pytest.raises(JournalError, match=r"there is no folder .*; make it"):
            journal.commit()
    path.parent.mkdir()
    commit(journal)
    journal.close()
    with closing(SqliteJournal(path)) as again:
        assert again.read(0) == records


@pytest.mark.parametrize("settled", [False, True])
def test_while_the_file_is_emptied_nothing_is_taken_for_committed_and_it_says_why(
    journal: SqliteJournal, path: Path, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commit waits for the outcome, which comes at once, unless the machine is busy with other things.
    monkeypatch.setattr(_file, "COPY_SECONDS", 60.0)
    told = Teller(journal).tell("aaa")
    journal.check()
    if settled:
        settle(journal, monkeypatch)
    os.truncate(path, 0)

    with pytest.raises(JournalError, match="emptied while in use, and cannot be written anew"):
        journal.commit()
    assert list(journal.read(0, limit=10)) == told, "those that are connected have all of it"


@pytest.mark.parametrize("settled", [False, True])
def test_a_lock_that_was_deleted_is_taken_again_so_that_no_second_relay_begins(
    journal: SqliteJournal, path: Path, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settled:
        settle(journal, monkeypatch)
    path.with_name("relay.db-lock").unlink()
    journal.check()
    with pytest.raises(JournalError, match="is in use by another relay"):
        SqliteJournal(path)


def test_where_another_relay_has_the_place_meanwhile_nothing_of_it_is_touched(
    journal: SqliteJournal, path: Path
) -> None:
    Teller(journal).tell("a")
    delete_all(path)
    with closing(SqliteJournal(path)) as other:
        theirs = Teller(other).tell("bb")
        Teller(journal).say("a")
        with pytest.raises(JournalError, match="is in use by another relay"):
            journal.commit()
        assert other.read(0) == theirs
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("SELECT count(*) FROM records").fetchone() == (2,)


async def test_a_relay_looks_after_its_journal_every_few_seconds_and_readyz_knows(
    path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CHECK_EVERY", 0.0)
    monkeypatch.setattr(_file, "COPY_SECONDS", 0.0)
    may_be_copied, make_copy = threading.Event(), _place.Place.make_copy

    def make_copy_later(place: _place.Place) -> Path:
        may_be_copied.wait()
        return make_copy(place)

    monkeypatch.setattr(_place.Place, "make_copy", make_copy_later)
    clock = ManualClock(auto=True)
    journal = SqliteJournal(path, notify=notices.append)
    async with Relay(
        [OneStep(story({"t": RUNNING}), interval=600.0)], journal=journal, clock=clock, notify=notices.append
    ) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(1.0)
        delete_all(path)
        await relay.bus.write_blocked.wait()
        assert relay.problems()[0].startswith(
            f"the journal {path} was deleted, moved, replaced or emptied while in use, and "
        )
        may_be_copied.set()
        while relay.problems():
            await clock.sleep(1.0)
        seq = job.state.seq
        assert [record.seq for record in after_a_kill(path, path.parent / "killed")] == list(range(1, seq + 1))
    assert any(f"the journal {path} {ANEW}; nothing is lost" in notice for notice in notices)
