"""The bus: every sink hears every record, in one order, whatever the other sinks do."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from relay.bus import Bus
from relay.bus.subscription import PROBE_EVERY, QUARANTINE_AFTER, Subscription
from relay.errors import JournalError, UsageError
from relay.events import Accepted, Checking, Done, Exchange, Record
from relay.jobs import Job, JobState, recall
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.relay.scripted import an_exchange


class Ear:
    """A sink that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def __call__(self, record: Record) -> None:
        self.heard.append((record.job, record.seq))


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(notices: list[str], clock: ManualClock) -> Bus:
    return Bus(MemoryJournal(), clock=clock, notify=notices.append)


def tell(bus: Bus, job: Job, times: int = 1) -> list[Record]:
    return [
        bus.publish(
            job, Checking(attempt=job.state.attempt + 1, of=600) if job.state.seq else Accepted(upstream="sora")
        )
        for _ in range(times)
    ]


def test_records_of_a_job_are_numbered_without_holes_and_positions_across_all_jobs(bus: Bus) -> None:
    a, b = Job("a"), Job("b")

    records = [*tell(bus, a), *tell(bus, b), *tell(bus, a, 2), *tell(bus, b)]

    assert [(record.job, record.seq, record.position.offset) for record in records] == [
        ("a", 1, 1),
        ("b", 1, 2),
        ("a", 2, 3),
        ("a", 3, 4),
        ("b", 2, 5),
    ]
    assert {record.position.epoch for record in records} == {bus.journal.epoch}


def test_sinks_are_called_in_the_order_in_which_they_subscribed(bus: Bus) -> None:
    order: list[int] = []

    def numbered(number: int) -> Callable[[Record], None]:
        return lambda _: order.append(number)

    for number in range(20):
        bus.subscribe(numbered(number))
    tell(bus, Job("a"))

    assert order == list(range(20))


def test_a_record_is_in_the_journal_before_any_sink_hears_of_it(bus: Bus) -> None:
    kept_when_heard: list[bool] = []
    bus.subscribe(lambda record: kept_when_heard.append(record in bus.journal.read(0)))

    tell(bus, Job("a"), 3)

    assert kept_when_heard == [True, True, True]


def test_a_sink_that_raises_costs_the_others_nothing_and_hears_the_next_record(bus: Bus, notices: list[str]) -> None:
    before, after, faulty = Ear(), Ear(), Ear()

    def raises_on_2(record: Record) -> None:
        faulty(record)
        if record.seq == 2:
            raise ValueError("two is\ntoo many")

    for sink in (before, raises_on_2, after):
        bus.subscribe(sink)
    tell(bus, Job("a"), 4)

    assert before.heard == after.heard == faulty.heard == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]
    assert [text.split(";")[0] for text in notices] == [
        f"sink {raises_on_2.__qualname__} failed on a seq 2: ValueError: two is",
        f"sink {raises_on_2.__qualname__} works again",
    ]


def test_a_sink_that_keeps_failing_is_set_aside_and_tried_again_later(
    bus: Bus, notices: list[str], clock: ManualClock
) -> None:
    calls: list[int] = []
    broken = True

    def flaky(record: Record) -> None:
        calls.append(record.seq)
        if broken:
            raise OSError("disk full")

    subscription = bus.subscribe(flaky)
    job = Job("a")
    tell(bus, job, QUARANTINE_AFTER + 10)
    assert calls == list(range(1, QUARANTINE_AFTER + 1))
    assert len(notices) == 2, "the first failure and the quarantine are said, the failures between are not"

    broken = False
    asyncio.run(clock.advance(PROBE_EVERY))
    tell(bus, job, 2)

    assert calls[QUARANTINE_AFTER:] == [QUARANTINE_AFTER + 11, QUARANTINE_AFTER + 12]
    assert not subscription.quarantined
    assert subscription.missed == QUARANTINE_AFTER + 10
    assert notices[-1].endswith(f"works again; it has missed {QUARANTINE_AFTER + 10} records so far")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_passes_on_once_every_sink_has_heard_the_record(
    bus: Bus, interruption: type[BaseException]
) -> None:
    late, job = Ear(), Job("a")

    def interrupted(_: Record) -> None:
        raise interruption

    bus.subscribe(interrupted)
    bus.subscribe(late)
    with pytest.raises(interruption):
        tell(bus, job)

    assert late.heard == [("a", 1)]
    assert job.state.seq == 1


def test_a_cancelled_error_out_of_a_sink_is_its_own_failure_and_cancels_nobody(bus: Bus, notices: list[str]) -> None:
    def confused(_: Record) -> None:
        raise asyncio.CancelledError

    bus.subscribe(confused)
    tell(bus, Job("a"))

    assert len(notices) == 1


def test_a_sink_that_publishes_is_refused_so_nobody_hears_two_records_in_the_wrong_order(
    bus: Bus, notices: list[str]
) -> None:
    job, late = Job("a"), Ear()

    def talkative(_: Record) -> None:
        tell(bus, job)

    bus.subscribe(talkative)
    bus.subscribe(late)
    tell(bus, job)

    assert late.heard == [("a", 1)]
    assert "a sink may not publish" in notices[0]


def test_a_sink_may_leave_in_the_middle_of_a_record(bus: Bus) -> None:
    first, last, job = Ear(), Ear(), Job("a")
    leaver = Ear()

    def leave_at_2(record: Record) -> None:
        leaver(record)
        if record.seq == 2:
            subscription.close()
            subscription.close()

    bus.subscribe(first, [job])
    subscription = bus.subscribe(leave_at_2, [job])
    bus.subscribe(last, [job])
    tell(bus, job, 3)

    assert leaver.heard == [("a", 1), ("a", 2)]
    assert first.heard == last.heard == [("a", 1), ("a", 2), ("a", 3)]


def test_a_sink_removed_by_another_before_its_turn_hears_nothing_of_this_record(bus: Bus) -> None:
    victim, subscriptions, job = Ear(), list[Subscription](), Job("a")
    bus.subscribe(lambda _: subscriptions[0].close(), [job])
    subscriptions.append(bus.subscribe(victim, [job]))

    tell(bus, job, 2)

    assert victim.heard == []


@pytest.mark.parametrize("after", [None, 0])
def test_a_sink_added_in_the_middle_of_a_record_hears_from_the_boundary_on_and_nothing_twice(
    bus: Bus, after: int | None
) -> None:
    newcomer, job = Ear(), Job("a")
    added: list[Subscription] = []

    def invite(record: Record) -> None:
        if record.seq == 2 and not added:
            added.append(bus.subscribe(newcomer, [job], after=after))

    bus.subscribe(invite)
    tell(bus, job, 4)

    assert newcomer.heard == [("a", seq) for seq in ((3, 4) if after is None else (1, 2, 3, 4))]


def test_replay_joins_the_live_tail_without_hole_or_repetition_also_across_pages(bus: Bus) -> None:
    job, ear = Job("a"), Ear()
    tell(bus, job, 1_500)
    fifth = bus.journal.read(4, limit=1)[0]

    bus.subscribe(ear, [job], after=fifth.position.offset)
    tell(bus, job, 3)

    assert ear.heard == [("a", seq) for seq in range(6, 1_504)]


def test_a_subscription_to_jobs_hears_these_and_no_others(bus: Bus) -> None:
    a, b, c = Job("a"), Job("b"), Job("c")
    ear = Ear()

    with bus.subscribe(ear, [a, b, a]):
        for job in (a, b, c, a):
            tell(bus, job)
    tell(bus, a)

    assert ear.heard == [("a", 1), ("b", 1), ("a", 2)]


def test_closed_subscriptions_and_forgotten_jobs_leave_nothing_behind(bus: Bus) -> None:
    job = Job("a")
    kept = weakref.ref(job)
    for _ in range(50):
        with bus.subscribe(Ear(), [job]), bus.subscribe(Ear()):
            tell(bus, job)
    del job
    gc.collect()

    assert kept() is None


def test_a_reader_that_comes_and_goes_a_thousand_times_leaves_nothing_on_the_bus(bus: Bus) -> None:
    """Found by 100,000 clients: blinker keeps a receiver for ever whose last sender was disconnected."""
    job = Job("a")

    def alive() -> int:
        gc.collect()
        return sum(str(type(thing).__module__).startswith("relay.bus.") for thing in gc.get_objects())

    with bus.subscribe(Ear(), [job]):
        pass
    before = alive()
    assert before
    for _ in range(1_000):
        with bus.subscribe(Ear(), [job]):
            pass

    assert alive() == before


def test_nothing_follows_a_terminal_record(bus: Bus) -> None:
    job = Job("a")
    tell(bus, job)
    bus.publish(job, Done(urls=("https://a/b",)))

    with pytest.raises(UsageError, match="a has ended; nothing can follow its 'succeeded' record"):
        tell(bus, job)
    assert [record.seq for record in bus.journal.read(0)] == [1, 2]


def test_another_thread_is_told_how_to_publish(bus: Bus) -> None:
    tell(bus, Job("a"))
    errors: list[str] = []

    def intrude() -> None:
        try:
            tell(bus, Job("b"))
        except UsageError as error:
            errors.append(str(error))

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()

    assert errors == ["the bus belongs to its event loop's thread; use loop.call_soon_threadsafe to reach it"]


def test_raw_exchanges_reach_their_listeners_and_are_no_records(
    bus: Bus, notices: list[str], clock: ManualClock
) -> None:
    heard: list[Exchange] = []
    exchange = an_exchange(clock.now(), "a")

    def broken(_: Exchange) -> None:
        raise ValueError("no")

    bus.subscribe_exchanges(broken)
    stop = bus.subscribe_exchanges(heard.append)
    bus.publish_exchange(exchange)
    stop()
    bus.publish_exchange(exchange)

    assert heard == [exchange]
    assert bus.journal.head == 0
    assert all("failed on a raw exchange: ValueError: no" in text for text in notices)


def test_two_journals_never_share_an_epoch() -> None:
    assert len({MemoryJournal(Retention()).epoch for _ in range(100)}) == 100


async def test_a_batch_is_committed_once_and_then_goes_out_in_order() -> None:
    commits: list[int] = []

    class Counting(MemoryJournal):
        def commit(self) -> None:
            super().commit()
            commits.append(self.head)

    bus, a, b, ear = Bus(Counting()), Job("a"), Job("b"), Ear()
    bus.subscribe(ear)
    with bus.batch():
        tell(bus, a, 2)
        with bus.batch():
            tell(bus, b)
        tell(bus, a)
        assert ear.heard == []

    assert commits == [4]
    assert ear.heard == [("a", 1), ("a", 2), ("b", 1), ("a", 3)]


class Resting(MemoryJournal):
    """A journal whose commits are expensive: deferrable ones are shared."""

    def __init__(self, commit_delay: float) -> None:
        super().__init__()
        self.commits: list[int] = []
        self._commit_delay = commit_delay

    @property
    def commit_delay(self) -> float:
        return self._commit_delay

    def commit(self) -> None:
        super().commit()
        self.commits.append(self.head)


AGES = 1_000.0


async def test_a_lone_batch_is_told_at_once_and_those_close_behind_it_share_a_commit() -> None:
    journal = Resting(commit_delay=AGES)
    bus, a, b, ear = Bus(journal), Job("a"), Job("b"), Ear()
    bus.subscribe(ear)
    for job in (a, b, a):
        with bus.batch(deferrable=True):
            tell(bus, job)

    assert (journal.commits, ear.heard) == ([1], [("a", 1)])
    assert (a.state.seq, b.state.seq) == (1, 0)
    tell(bus, b)
    assert (journal.commits, ear.heard) == ([1, 4], [("a", 1), ("b", 1), ("a", 2), ("b", 2)])


async def test_what_waits_for_others_waits_no_longer_than_the_journal_asks() -> None:
    journal = Resting(commit_delay=0.001)
    bus, job, ear = Bus(journal, clock=ManualClock()), Job("a"), Ear()  # no time passes between the batches
    told = asyncio.Event()
    bus.subscribe(ear)
    bus.subscribe(lambda record: told.set() if record.seq == 3 else None)
    for _ in range(3):
        with bus.batch(deferrable=True):
            tell(bus, job)

    await told.wait()
    assert ear.heard == [("a", 1), ("a", 2), ("a", 3)]
    assert journal.commits == [1, 3]


def test_without_a_loop_no_batch_waits() -> None:
    journal = Resting(commit_delay=AGES)
    bus, job = Bus(journal), Job("a")
    for _ in range(2):
        with bus.batch(deferrable=True):
            tell(bus, job)

    assert journal.commits == [1, 2]


async def test_a_batch_that_must_be_kept_at_once_makes_the_one_around_it_so() -> None:
    journal = Resting(commit_delay=AGES)
    bus, job = Bus(journal), Job("a")
    tell(bus, job)
    with bus.batch(deferrable=True), bus.batch():
        tell(bus, job)

    assert journal.commits == [1, 2]


async def test_while_the_journal_cannot_be_written_nothing_is_sent_and_nothing_is_lost(notices: list[str]) -> None:
    class Failing(MemoryJournal):
        full = True

        def commit(self) -> None:
            if self.full:
                raise JournalError("the disk is full")
            super().commit()

    journal = Failing()
    bus, job, ear = Bus(journal, notify=notices.append), Job("a"), Ear()
    bus.subscribe(ear)
    tell(bus, job, 2)
    assert ear.heard == []
    journal.full = False
    tell(bus, job)

    assert ear.heard == [("a", 1), ("a", 2), ("a", 3)]
    assert notices == [
        "the disk is full; records wait in memory until it can be written",
        "the journal can be written again",
    ]


def test_an_interruption_in_a_batch_passes_on_once_all_of_it_was_heard(bus: Bus) -> None:
    ear, job = Ear(), Job("a")

    def interrupted(record: Record) -> None:
        if record.seq == 1:
            raise KeyboardInterrupt

    bus.subscribe(interrupted)
    bus.subscribe(ear)
    with pytest.raises(KeyboardInterrupt), bus.batch():
        tell(bus, job, 3)

    assert ear.heard == [("a", 1), ("a", 2), ("a", 3)]


def test_the_state_of_a_job_is_what_was_published_and_the_next_event_follows_on_what_is_pending(bus: Bus) -> None:
    job = Job("a")
    with bus.batch():
        bus.publish(job, Accepted(upstream="u", task="t"))
        bus.publish(job, Done())

        assert (job.state, job.ended, bus.pending(job).task, bus.pending(job).ended) == (JobState(), False, "t", True)
        with pytest.raises(UsageError, match="a has ended; nothing can follow its 'succeeded' record"):
            bus.publish(job, Done())

    assert (job.state, job.ended) == (bus.pending(job), True)
    assert job.state == recall(bus.journal.read(0))
