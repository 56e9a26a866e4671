"""Cursors of durable sinks: what they pin, for how long, and what comes through a restart."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.errors import JournalError, UsageError
from relay.events import Record
from relay.journal import KeepsCursors, MemoryJournal, Retention, SqliteJournal
from relay.journal._cursors import stored_cursors
from relay.journal._index import size_of
from relay.journal._reading import reading
from tests.journal.telling import Teller

NARROW = Retention(records=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@contextmanager
def opened(path: Path, keep: Retention | None = None, **options: Any) -> Generator[SqliteJournal]:
    with closing(SqliteJournal(path, keep, **options)) as journal:
        yield journal


def offsets(journal: SqliteJournal) -> list[int]:
    return [record.position.offset for record in journal.read(0)]


def size_of_all(records: list[Record]) -> int:
    return sum(size_of(record.json) for record in records)


def test_a_journal_that_outlives_its_process_keeps_cursors_and_that_of_memory_does_not(path: Path) -> None:
    with opened(path) as journal:
        assert isinstance(journal, KeepsCursors)
    assert not isinstance(MemoryJournal(), KeepsCursors)


def test_a_cursor_begins_where_its_sink_says_and_is_where_it_was_after_a_restart(path: Path) -> None:
    with opened(path) as journal:
        assert journal.cursors.claim("hook", 0) == 0
        Teller(journal).tell("abab")
        journal.cursors.move("hook", 3)
        journal.cursors.save()
    with opened(path) as journal:
        assert journal.cursors.claim("hook", 0) == 3


def test_a_move_is_durable_with_the_next_commit_also_one_of_nothing(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        journal.cursors.claim("hook", 0)
        teller.tell("a")
        journal.cursors.move("hook", 1)
        with reading(path) as sql:
            assert stored_cursors(sql) == [("hook", 0)]
        teller.tell("a")
        with reading(path) as sql:
            assert stored_cursors(sql) == [("hook", 1)]
        journal.cursors.move("hook", 2)
        journal.commit()
        with reading(path) as sql:
            assert stored_cursors(sql) == [("hook", 2)]


def test_a_move_waits_while_the_file_is_locked_and_is_not_lost(path: Path) -> None:
    with opened(path) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        journal.cursors.claim("hook", 0)
        Teller(journal).tell("a")
        journal.cursors.move("hook", 1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="is locked by another program"):
            journal.cursors.save()
        other.execute("ROLLBACK")
        journal.cursors.save()
        with reading(path) as sql:
            assert stored_cursors(sql) == [("hook", 1)]


def test_two_sinks_cannot_have_one_cursor_at_the_same_time(path: Path) -> None:
    with opened(path) as journal:
        journal.cursors.claim("hook", 0)
        with pytest.raises(UsageError, match="two durable sinks are called 'hook'; give each a name of its own"):
            journal.cursors.claim("hook", 0)
        journal.cursors.release("hook")
        assert journal.cursors.claim("hook", 5) == 0


def test_records_wait_beyond_every_bound_for_the_sink_that_is_furthest_behind(path: Path) -> None:
    with opened(path, NARROW) as journal:
        teller = Teller(journal)
        for name, start in (("slow", 2), ("quick", 6)):
            journal.cursors.claim(name, start)
        for _ in range(10):
            teller.tell("a")
        assert offsets(journal) == [3, 4, 5, 6, 7, 8, 9, 10]

        journal.cursors.move("slow", 7)
        teller.tell("a")
        assert offsets(journal) == [7, 8, 9, 10, 11]

        journal.cursors.move("quick", 11)
        journal.cursors.move("slow", 11)
        teller.tell("a")
        assert offsets(journal) == [10, 11, 12]


def test_they_wait_beyond_their_age(path: Path) -> None:
    with opened(path, Retention(age=60)) as journal:
        teller = Teller(journal)
        journal.cursors.claim("hook", 0)
        teller.say("a")
        teller.end("a")
        journal.commit()
        teller.wait(1_000)
        teller.tell("b")
        assert offsets(journal) == [1, 2, 3]
        journal.cursors.move("hook", 1)
        teller.tell("b")
        assert offsets(journal) == [2, 3, 4]
        journal.cursors.move("hook", 4)
        teller.tell("b")
        assert offsets(journal) == [3, 4, 5]


def test_they_wait_up_to_a_stated_size_and_no_longer(path: Path) -> None:
    records: list[Record] = []
    keep = Retention(records=3, bytes=2_000, pin_bytes=4_000)
    with opened(path, keep) as journal:
        teller = Teller(journal)
        journal.cursors.claim("dead", 0)
        sizes = []
        for _ in range(100):
            records += teller.tell("a")
            sizes.append(size_of_all(list(journal.read(0))))
        assert max(sizes) <= 6_000
        assert min(sizes[-50:]) > 6_000 - 2 * size_of(records[-1].json)
        assert list(journal.read(0)) == records[-len(journal.read(0)) :]
        journal.cursors.move("dead", 100)
        teller.tell("a")
        assert offsets(journal) == [99, 100, 101]


def test_a_released_cursor_pins_on_for_a_week_and_one_that_is_let_go_does_not(path: Path) -> None:
    with opened(path, NARROW) as journal:
        teller = Teller(journal)
        journal.cursors.claim("left", 0)
        for _ in range(5):
            teller.tell("a")
        journal.cursors.release("left")
        teller.wait(6 * 86_400)
        teller.tell("a")
        assert offsets(journal) == [1, 2, 3, 4, 5, 6]
        assert [(cursor.name, cursor.offset, cursor.pins) for cursor in journal.cursors.all()] == [("left", 0, True)]

        journal.cursors.claim("left", 0)
        journal.cursors.release("left", pins=False)
        teller.tell("a")
        assert offsets(journal) == [5, 6, 7]
        assert [cursor.pins for cursor in journal.cursors.all()] == [False]


def test_a_sink_that_nobody_has_for_a_week_pins_nothing_and_is_forgotten_at_the_next_start(path: Path) -> None:
    notices: list[str] = []
    with opened(path) as journal:
        teller = Teller(journal)
        for name in ("gone", "there"):
            journal.cursors.claim(name, 0)
        teller.tell("a")
    with opened(path, NARROW) as journal:
        journal.cursors.claim("there", 0)
        teller = Teller(journal)
        teller.wait(7 * 86_400 + 1)
        teller.tell("a")
        journal.cursors.move("there", 2)
        for _ in range(5):
            teller.tell("a")
        assert offsets(journal) == [3, 4, 5, 6, 7]
        assert [(cursor.name, cursor.pins) for cursor in journal.cursors.all()] == [("gone", False), ("there", True)]
    with opened(path, notify=notices.append) as journal:
        assert [cursor.name for cursor in journal.cursors.all()] == ["there"]
    assert notices == ["no sink called gone was there for 7 days, so its cursor is forgotten"]


def test_a_relay_that_stood_still_for_a_month_forgets_nothing(path: Path) -> None:
    with opened(path, NARROW) as journal:
        journal.cursors.claim("hook", 0)
        Teller(journal).tell("ab")
    with opened(path, NARROW) as journal:
        teller = Teller(journal)
        assert journal.cursors.claim("hook", 9) == 0
        teller.wait(30 * 86_400)
        for _ in range(5):
            teller.tell("a")
        assert offsets(journal) == [1, 2, 3, 4, 5, 6, 7]


def test_forgetting_ends_the_pin_for_good(path: Path) -> None:
    with opened(path, NARROW) as journal:
        teller = Teller(journal)
        journal.cursors.claim("hook", 0)
        for _ in range(5):
            teller.tell("a")
        with pytest.raises(UsageError, match="the sink 'hook' is at work; remove it before its cursor is forgotten"):
            journal.cursors.forget("hook")
        journal.cursors.release("hook")
        journal.cursors.forget("hook")
        teller.tell("a")
        assert (offsets(journal), journal.cursors.all()) == ([4, 5, 6], [])
        assert journal.cursors.claim("hook", 6) == 6


def test_a_new_epoch_after_a_power_cut_carries_the_cursors_over(path: Path) -> None:
    with opened(path) as journal:
        journal.cursors.claim("hook", 0)
        Teller(journal).tell("abc")
        journal.cursors.move("hook", 2)
        journal.cursors.save()
        epoch = journal.epoch
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("UPDATE journal SET boot = 'of another run of the machine'")
        sql.commit()
    with opened(path, notify=lambda _: None) as journal:
        assert journal.epoch != epoch
        assert journal.cursors.claim("hook", 0) == 2


def test_a_cursor_is_never_beyond_the_newest_record(path: Path) -> None:
    """An operator copies a file back that is older than the log."""
    with opened(path) as journal:
        journal.cursors.claim("hook", 0)
        Teller(journal).tell("abc")
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("UPDATE cursors SET offset = 99")
        sql.commit()
    with opened(path) as journal:
        assert journal.cursors.claim("hook", 0) == 3


RELEASED = (
    "CREATE TABLE journal (epoch TEXT NOT NULL, boot TEXT NOT NULL)",
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT, digest BLOB, state BLOB,"
    " folded_to INTEGER NOT NULL DEFAULT 0, trimmed_to INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE records (offset INTEGER PRIMARY KEY, job INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX records_by_job ON records (job)",
)
"""The tables of the version that was released without cursors."""


def test_a_journal_of_the_version_before_gets_the_tables_and_keeps_its_epoch(path: Path) -> None:
    with opened(path) as journal:
        records, epoch = Teller(journal).tell("abab"), journal.epoch
    with closing(sqlite3.connect(path)) as sql:
        sql.executescript("DROP TABLE cursors; DROP TABLE parked;")
        tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"journal", "jobs", "records"}
    with reading(path) as sql:
        assert stored_cursors(sql) == []
    with opened(path) as journal:
        assert (journal.epoch, journal.read(0)) == (epoch, records)
        assert journal.cursors.claim("hook", 1) == 1


def test_the_version_before_reads_and_writes_a_journal_with_cursors(path: Path) -> None:
    """It knows these tables by name alone, and SQLite lets it: nothing of ours hangs on their rows."""
    with opened(path) as journal:
        journal.cursors.claim("hook", 0)
        Teller(journal).tell("abab")
    with closing(sqlite3.connect(path)) as sql:
        (version,) = sql.execute("PRAGMA user_version").fetchone()
        known = {text for (text,) in sql.execute("SELECT sql FROM sqlite_master WHERE name IN ('journal', 'records')")}
        assert version == 1
        assert known <= set(RELEASED)
        sql.execute("DELETE FROM records WHERE offset <= 2")
        sql.commit()
    with opened(path) as journal:
        assert (journal.cursors.claim("hook", 0), journal.has_all_since(0), len(journal.read(0))) == (0, False, 2)


class PinnedModel(RuleBasedStateMachine):
    """Cursors that move, restarts and trimming, against a list of what must be there."""

    @initialize(bound=st.integers(1, 20), room=st.integers(0, 6_000))
    def first(self, bound: int, room: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.keep = Retention(records=bound, bytes=3_000, pin_bytes=room)
        self.cursors: dict[str, int] = {}
        self.all: list[Record] = []
        self.open(lambda _: None)

    def open(self, notify: Callable[[str], None]) -> None:
        self.journal = SqliteJournal(self.folder / "relay.db", self.keep, notify=notify)
        self.teller = Teller(self.journal)

    @rule(name=st.sampled_from("xyz"), start=st.integers(0, 100))
    def claim(self, name: str, start: int) -> None:
        if name not in self.cursors:
            start = min(start, self.journal.head)
            self.cursors[name] = self.journal.cursors.claim(name, start)
            assert self.cursors[name] == start

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), by=st.integers(0, 20), save=st.booleans())
    def move(self, data: st.DataObject, by: int, save: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.cursors)))
        self.cursors[name] = min(self.journal.head, self.cursors[name] + by)
        self.journal.cursors.move(name, self.cursors[name])
        if save:
            self.journal.cursors.save()

    @precondition(lambda self: self.cursors)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cursors)))
        self.journal.cursors.release(name)
        self.journal.cursors.forget(name)
        del self.cursors[name]

    @rule(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
    def commit(self, names: list[str]) -> None:
        self.all += self.teller.tell(names)
        pin = min(self.cursors.values(), default=len(self.all))
        kept = list(self.journal.read(0))
        must = [record for record in self.all[pin:] if record.position.offset > self.dropped]
        if size_of_all(must) <= self.keep.bytes + self.keep.pin_bytes:
            assert kept[-len(must) :] == must or not must
        unpinned = [record for record in kept if record.position.offset <= pin]
        assert size_of_all(kept) <= self.keep.bytes + self.keep.pin_bytes or len(kept) == 1
        assert len(unpinned) <= max(1, self.keep.records)

    @property
    def dropped(self) -> int:
        """The offset up to which an earlier commit has dropped the records for good."""
        return self.journal.read(0)[0].position.offset - 1 if self.journal.head else 0

    @rule()
    def restart(self) -> None:
        """A kill after the last commit: what was saved with it is what the next process finds."""
        self.journal.cursors.save()
        self.journal.close()
        self.open(lambda _: None)
        for name, offset in self.cursors.items():
            assert self.journal.cursors.claim(name, 0) == offset

    @invariant()
    def cursors_are_where_they_were_moved(self) -> None:
        if hasattr(self, "journal"):
            found = {cursor.name: cursor.offset for cursor in self.journal.cursors.all()}
            assert found == self.cursors
            assert all(offset <= self.journal.head for offset in found.values())

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder)


TestPinnedModel = PinnedModel.TestCase
TestPinnedModel.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
