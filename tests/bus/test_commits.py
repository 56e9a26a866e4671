"""From an event to a committed record: what cannot be stored, and what waits while nothing can be."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay import Relay
from relay.bus import Bus, commits, pending
from relay.errors import JournalError, UnavailableError, UsageError
from relay.events import Accepted, Done, Event, Log, Record
from relay.jobs import Job, JobState, recall
from relay.journal import Journal, MemoryJournal, SqliteJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, story

POISON = "poison"


class Choosy(MemoryJournal):
    """Can never store what mentions POISON, or came with that key; nothing at all while it is full."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
        self.full = False
        self.commits: list[int] = []

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        if key == POISON:
            raise self.error

    def commit(self) -> None:
        if self.full:
            raise JournalError("the disk is full")
        if any(POISON in record.json.decode() for record in self._pending):
            raise self.error
        self.commits.append(len(self._pending))
        super().commit()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def choosy() -> Choosy:
    return Choosy()


@pytest.fixture
def heard() -> list[Record]:
    return []


@pytest.fixture
def bus(choosy: Choosy, notices: list[str], heard: list[Record]) -> Bus:
    bus = Bus(choosy, clock=ManualClock(), notify=notices.append)
    bus.subscribe(heard.append)
    return bus


def lines(records: list[Record]) -> list[tuple[str, int, int, str]]:
    return [(record.job, record.seq, record.position.offset, record.event.text) for record in records]


def begun(bus: Bus, *names: str) -> list[Job]:
    jobs = [Job(name) for name in names]
    for job in jobs:
        bus.publish(job, Accepted(upstream="u", task="t"))
    return jobs


SET_ASIDE = "a 'log' record could not be stored (UnicodeEncodeError)"


def test_a_record_that_cannot_be_stored_is_set_aside_and_all_others_are_stored_and_sent(
    bus: Bus, choosy: Choosy, notices: list[str], heard: list[Record]
) -> None:
    a, b = begun(bus, "a", "b")
    with bus.batch():
        for job, line in ((a, "one"), (b, POISON), (b, "two"), (a, "three")):
            bus.publish(job, Log(line=line))
    bus.publish(b, Log(line="four"))

    assert lines(heard[2:]) == [
        ("a", 2, 3, "one"),
        ("b", 2, 4, SET_ASIDE),
        ("b", 3, 5, "two"),
        ("a", 3, 6, "three"),
        ("b", 4, 7, "four"),
    ]
    assert heard == choosy.read(0)
    assert [recall(choosy.read(0, [job.id])) for job in (a, b)] == [a.state, b.state]
    assert (bus.problems(), len(notices)) == ([], 1)
    assert notices[0].startswith("the 'log' record of b (seq 2) cannot be stored and is set aside: UnicodeEncodeError")


def test_the_end_of_a_job_that_cannot_be_stored_is_another_end_and_there_is_one(
    bus: Bus, choosy: Choosy, heard: list[Record]
) -> None:
    (job,) = begun(bus, "a")
    bus.publish(job, Done(urls=(f"https://{POISON}/",)))

    assert (job.state.status, [record.event.type for record in choosy.read(0)]) == ("failed", ["accepted", "failed"])
    assert heard == choosy.read(0)
    assert "a 'done' record could not be stored" in job.state.text


def test_what_follows_in_a_batch_on_a_task_that_cannot_be_stored_is_dropped_and_other_jobs_go_on(
    bus: Bus, choosy: Choosy, heard: list[Record]
) -> None:
    a, b = begun(bus, "a", "b")
    with bus.batch():
        bus.publish(a, Accepted(upstream="u", task=POISON))
        bus.publish(a, Log(line="of nobody"))
        bus.publish(b, Log(line="mine"))

    assert [(record.job, record.seq, record.position.offset, record.event.type) for record in heard[2:]] == [
        ("a", 2, 3, "failed"),
        ("b", 2, 4, "log"),
    ]
    assert heard == choosy.read(0)


def test_a_job_whose_beginning_cannot_be_stored_leaves_nothing_behind(
    bus: Bus, choosy: Choosy, notices: list[str], heard: list[Record]
) -> None:
    job = Job("a")
    with pytest.raises(UsageError, match="this job cannot be stored; the operator's log says why"):
        bus.publish_first(job, Accepted(upstream="u"), key=POISON, digest=b"d")
    (b,) = begun(bus, "b")

    assert (job.state, bus.pending(job), choosy.head, b.state.seq) == (JobState(), JobState(), 1, 1)
    assert [record.job for record in heard] == ["b"]
    assert len(notices) == 1


def test_a_first_record_is_committed_or_refused_and_then_nothing_is_left(
    bus: Bus, choosy: Choosy, heard: list[Record]
) -> None:
    choosy.full = True
    job = Job("a")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="no new work is accepted") as caught:
            bus.publish_first(job, Accepted(upstream="u"))
        assert caught.value.retry_after == 5.0
    choosy.full = False
    with bus.batch():
        pass
    assert (job.state, heard, choosy.head, bus.problems()) == (JobState(), [], 0, [])
    with bus.batch():
        bus.publish_first(job, Accepted(upstream="u"))
        assert (len(heard), choosy.head) == (1, 1)


@pytest.mark.parametrize("error", [OverflowError("too large"), ValueError("no"), RuntimeError("no"), MemoryError()])
def test_a_journal_that_fails_on_everything_raises_into_nobody_and_loses_nothing(
    error: Exception, notices: list[str]
) -> None:
    class Broken(MemoryJournal):
        broken = True

        def commit(self) -> None:
            if self.broken:
                raise error
            super().commit()

    journal, heard = Broken(), list[Record]()
    bus = Bus(journal, clock=ManualClock(), notify=notices.append)
    bus.subscribe(heard.append)
    (job,) = begun(bus, "a")
    bus.publish(job, Log(line="one"))
    assert len(bus.problems()) == 1
    assert bus.problems()[0].startswith(f"the journal cannot be used: {type(error).__name__}")
    journal.broken = False
    with bus.batch():
        pass

    assert [record.seq for record in heard] == [1, 2]
    assert bus.problems() == []


def test_an_error_behind_a_commit_that_succeeded_skips_no_offset_and_repeats_no_record(
    notices: list[str], heard: list[Record]
) -> None:
    class Late(MemoryJournal):
        def commit(self) -> None:
            super().commit()
            raise OSError("no thread")

    bus = Bus(Late(), clock=ManualClock(), notify=notices.append)
    bus.subscribe(heard.append)
    begun(bus, "a", "b")

    assert [record.position.offset for record in heard] == [1, 2]
    assert notices == ["the journal has failed behind a commit that succeeded: OSError: no thread"] * 2


async def test_records_that_wait_are_bounded_and_sent_in_slices_with_others_turns_in_between(
    bus: Bus, choosy: Choosy, notices: list[str], heard: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "MOST_RECORDS", 1_000)
    (job,) = begun(bus, "a")
    choosy.full = True
    for number in range(1_000):
        assert bus.room.is_set()
        with bus.batch():
            bus.publish(job, Log(line=str(number)))
    assert not bus.room.is_set()
    assert bus.problems() == [
        "the disk is full; records wait in memory until it can be written",
        "polling pauses, since too many records wait",
    ]

    choosy.full, told = False, list[int]()
    with bus.batch():
        pass
    while not bus.room.is_set():
        told.append(len(heard))
        bus.publish(job, Log(line="meanwhile"))
        await asyncio.sleep(0)

    assert [record.seq for record in heard] == list(range(1, 1_002 + len(told)))
    assert max(choosy.commits) <= commits.SLICE
    assert told[:3] == [1 + commits.SLICE * turn for turn in (1, 2, 3)]
    assert bus.problems() == []
    assert notices[1:] == [
        "1,000 records wait for the journal; polling pauses until it can be written",
        "the journal can be written again",
    ]


async def test_while_what_has_waited_is_written_new_work_is_refused(bus: Bus, choosy: Choosy) -> None:
    (job,) = begun(bus, "a")
    choosy.full = True
    for number in range(2 * commits.SLICE):
        bus.publish(job, Log(line=str(number)))
    choosy.full = False
    with bus.batch():
        pass
    with pytest.raises(UnavailableError):
        bus.publish_first(Job("b"), Accepted(upstream="u"))
    await bus.drained()
    bus.publish_first(Job("b"), Accepted(upstream="u"))


@pytest.mark.parametrize("polls_each_task", [False, True])
async def test_polling_pauses_while_too_many_records_wait_and_goes_on_afterwards(
    choosy: Choosy, monkeypatch: pytest.MonkeyPatch, polls_each_task: bool
) -> None:
    monkeypatch.setattr(pending, "MOST_RECORDS", 20)
    clock = ManualClock(auto=True)
    upstream = OneStep(story({"t": RUNNING}))
    upstream.polls_each_task = polls_each_task  # type: ignore[attr-defined]
    async with Relay([upstream], clock=clock, journal=choosy, notify=lambda _: None) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(1.0)
        choosy.full = True
        while relay.bus.room.is_set():
            await clock.sleep(1.0)
        asked = len(upstream.asked)
        await clock.sleep(100.0)
        assert len(upstream.asked) == asked
        assert relay.bus.pending(job).seq < 30
        choosy.full = False
        await relay.bus.room.wait()
        await clock.sleep(10.0)
        assert len(upstream.asked) > asked
        assert [record.seq for record in choosy.read(0)] == list(range(1, job.state.seq + 1))


def test_an_interruption_within_a_commit_leaves_the_records_to_the_next(
    bus: Bus, choosy: Choosy, heard: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = begun(bus, "a")
    with monkeypatch.context() as patch:
        patch.setattr(choosy, "commit", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            bus.publish(job, Log(line="one"))
    bus.publish(job, Log(line="two"))

    assert [record.seq for record in heard] == [1, 2, 3]


def _interrupt() -> None:
    raise KeyboardInterrupt


# The journal on disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def sqlite(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as journal:
        yield journal


REFUSE = """CREATE TRIGGER refuse BEFORE INSERT ON records WHEN instr(CAST(new.body AS TEXT), 'poison') > 0
BEGIN SELECT RAISE(ABORT, 'refused'); END"""


@pytest.mark.parametrize("event", [Log(line=POISON), Done(urls=(f"https://{POISON}/",))])
def test_a_row_that_the_file_refuses_is_set_aside_also_across_a_restart(
    sqlite: SqliteJournal, path: Path, event: Event, notices: list[str]
) -> None:
    sqlite._file.sql.execute(REFUSE)
    bus = Bus(sqlite, clock=ManualClock(), notify=notices.append)
    a, b = begun(bus, "a", "b")
    with bus.batch():
        bus.publish(a, event)
        bus.publish(b, Log(line="mine"))
    states = {job.id: job.state for job in (a, b)}
    sqlite.close()

    assert len(notices) == 1
    with closing(SqliteJournal(path)) as again:
        assert [record.position.offset for record in again.read(0)] == [1, 2, 3, 4]
        assert {job.id: job.state for job in again.recover()} == states


def test_a_key_that_the_file_refuses_costs_its_own_job_alone(sqlite: SqliteJournal, notices: list[str]) -> None:
    bus = Bus(sqlite, clock=ManualClock(), notify=notices.append)
    with pytest.raises(UsageError, match="cannot be stored"):
        bus.publish_first(Job("a"), Accepted(upstream="u"), key="caf\udce9", digest=b"d")
    bus.publish_first(Job("b"), Accepted(upstream="u"), key="k", digest=b"d")

    assert [(job.id, job.key) for job in sqlite.recover()] == [("b", "k")]
    assert bus.problems() == []


def test_a_commit_that_failed_behind_its_success_is_known_to_be_in_the_file(
    sqlite: SqliteJournal, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus(sqlite, clock=ManualClock(), notify=notices.append)
    (job,) = begun(bus, "a")
    real = sqlite._file.transaction

    class Late:
        """A transaction that fails once its COMMIT is through."""

        def __enter__(self) -> sqlite3.Connection:
            self._inner = real()
            return self._inner.__enter__()

        def __exit__(self, *error: object) -> None:
            self._inner.__exit__(None, None, None)
            raise JournalError("the disk did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite._file, "transaction", Late)
        bus.publish(job, Log(line="one"))
    bus.publish(job, Log(line="two"))

    assert [record.position.offset for record in sqlite.read(0)] == [1, 2, 3]
    assert notices == []


def test_what_was_discarded_was_never_there(sqlite: SqliteJournal, choosy: Choosy) -> None:
    for journal in (sqlite, choosy):
        _take_and_discard(journal)


def _take_and_discard(journal: Journal) -> None:
    bus = Bus(journal, clock=ManualClock())
    (a,) = begun(bus, "a")
    state, kept = a.state, list(journal.read(0))
    other = Bus(MemoryJournal(epoch=journal.epoch, after=journal.head), clock=ManualClock())
    record = other.publish(Job("a", state), Log(line="no"))
    journal.append(record)
    journal.append(other.publish(Job("b"), Accepted(upstream="u")))
    journal.remember("b", "k", b"d")
    journal.discard()
    journal.commit()

    assert (journal.read(0), journal.head, journal.keeps("b")) == (kept, 1, False)
    bus.publish(a, Log(line="yes"))
    assert [job.state for job in journal.recover()] in ([], [a.state])


async def test_what_was_deferred_is_committed_as_the_bus_is_closed_and_no_later(
    tmp_path: Path, notices: list[str], heard: list[Record]
) -> None:
    bus = Bus(SqliteJournal(tmp_path / "relay.db", notify=notices.append), clock=ManualClock(), notify=notices.append)
    bus.subscribe(heard.append)
    [job] = begun(bus, "j")
    with bus.batch(deferrable=True, linger=0.02):
        bus.publish(job, Log(line="waits"))
    assert (bus.waiting, len(heard)) == (1, 1)
    await bus.close()
    assert (bus.waiting, len(heard), notices) == (0, 2, [])

    with closing(SqliteJournal(tmp_path / "relay.db")) as again:
        assert lines(list(again.read(0))) == lines(heard)
