"""When commits happen, without a journal, an event loop or time that passes by itself."""

from collections.abc import Callable

import pytest

from relay.bus.commits import SLICE, CommitScheduler
from relay.testing import ManualClock


def _nothing() -> None:
    pass


class Writer:
    """Counts the records of each commit. While *problem* is set no commit succeeds, unless it is *mended*."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.pending: list[None] = []
        self.commits: list[int] = []
        self.commit_delay = 0.005
        self.problem: str | None = None
        self.mended = False
        self.recoveries = 0
        self.on_write: Callable[[], None] = _nothing

    def write(self, count: int) -> bool:
        if self.problem is not None and not self.mended:
            return False
        part = self.pending[:count]
        del self.pending[:count]
        self.commits.append(len(part))
        self.on_write()
        return True

    def recovered(self) -> None:
        self.recoveries += self.problem is not None
        self.problem = None


class Call:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Turns:
    """A loop of which a test takes each turn."""

    def __init__(self) -> None:
        self.soon: list[Call] = []
        self.later: list[tuple[float, Call]] = []

    def call_soon(self, callback: Callable[[], None]) -> Call:
        self.soon.append(Call(callback))
        return self.soon[-1]

    def call_later(self, delay: float, callback: Callable[[], None]) -> Call:
        self.later.append((delay, Call(callback)))
        return self.later[-1][1]

    def turn(self) -> None:
        calls, self.soon = self.soon, []
        for call in calls:
            call.act()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def writer(clock: ManualClock) -> Writer:
    return Writer(clock)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def written() -> list[bool]:
    return []


@pytest.fixture
def scheduler(writer: Writer, clock: ManualClock, turns: Turns, written: list[bool]) -> CommitScheduler:
    return CommitScheduler(writer, clock, lambda: turns, written=written.append)


def append(scheduler: CommitScheduler, writer: Writer, count: int = 1) -> None:
    for _ in range(count):
        writer.pending.append(None)
        scheduler.appended()


def batch(
    scheduler: CommitScheduler, writer: Writer, count: int, *, deferrable: bool = False, linger: float = 0.0
) -> None:
    scheduler.begin()
    append(scheduler, writer, count)
    scheduler.end(deferrable=deferrable, linger=linger)


def test_a_record_outside_of_a_batch_is_committed_at_once_and_a_batch_is_one_commit(
    scheduler: CommitScheduler, writer: Writer
) -> None:
    append(scheduler, writer)
    batch(scheduler, writer, 3)
    batch(scheduler, writer, 0)

    assert writer.commits == [1, 3]


def test_a_batch_within_another_is_part_of_its_commit(scheduler: CommitScheduler, writer: Writer) -> None:
    scheduler.begin()
    batch(scheduler, writer, 2)
    append(scheduler, writer)
    assert writer.commits == []
    scheduler.end(deferrable=False)

    assert writer.commits == [3]


def test_deferrable_batches_share_one_commit_when_the_delay_is_over(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    batch(scheduler, writer, 1, deferrable=True)
    batch(scheduler, writer, 2, deferrable=True)
    batch(scheduler, writer, 3, deferrable=True)
    assert (writer.commits, [delay for delay, _ in turns.later]) == ([1], [0.005])

    turns.later[0][1].act()

    assert writer.commits == [1, 5]


def test_a_batch_that_lingers_waits_for_what_follows_also_after_a_rest(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    batch(scheduler, writer, 1, deferrable=True, linger=0.02)
    batch(scheduler, writer, 1, deferrable=True, linger=0.03)
    assert (writer.commits, [delay for delay, _ in turns.later]) == ([], [0.02])
    batch(scheduler, writer, 2, deferrable=True)
    assert (writer.commits, turns.later[0][1].cancelled) == ([4], True)

    batch(scheduler, writer, 3, deferrable=True, linger=0.02)
    turns.later[1][1].act()

    assert writer.commits == [4, 3]


def test_a_batch_that_does_not_linger_brings_the_commit_forward(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    append(scheduler, writer)
    batch(scheduler, writer, 1, deferrable=True, linger=0.02)
    batch(scheduler, writer, 1, deferrable=True)

    assert (writer.commits, [(delay, call.cancelled) for delay, call in turns.later]) == (
        [1],
        [(0.02, True), (0.005, False)],
    )


def test_a_batch_is_committed_as_soon_as_any_batch_in_it_may_be(scheduler: CommitScheduler, writer: Writer) -> None:
    scheduler.begin()
    batch(scheduler, writer, 1, deferrable=True)
    scheduler.end(deferrable=True, linger=0.02)

    assert writer.commits == [1]


def test_nothing_lingers_where_commits_are_not_deferred(scheduler: CommitScheduler, writer: Writer) -> None:
    writer.commit_delay = 0.0
    batch(scheduler, writer, 1, deferrable=True, linger=0.02)

    assert writer.commits == [1]


def test_a_batch_with_nothing_in_it_sets_no_timer(scheduler: CommitScheduler, writer: Writer, turns: Turns) -> None:
    batch(scheduler, writer, 0, deferrable=True, linger=0.02)

    assert turns.later == []


def test_after_each_commit_it_is_known_whether_another_may_follow_at_once(
    scheduler: CommitScheduler, writer: Writer, turns: Turns, written: list[bool]
) -> None:
    append(scheduler, writer)
    batch(scheduler, writer, 2)
    batch(scheduler, writer, 3, deferrable=True)
    assert written == [False, False]

    turns.later[0][1].act()
    writer.commit_delay = 0.0
    batch(scheduler, writer, 4, deferrable=True)

    assert (written, writer.commits) == ([False, False, True, False], [1, 2, 3, 4])


def test_the_delay_counts_from_the_end_of_sending_which_may_take_longer(
    writer: Writer, clock: ManualClock, turns: Turns
) -> None:
    """Else each record of a burst would be sent to many readers by itself, since the delay is over by then."""
    reading = list[float]()

    class Clock(ManualClock):
        def monotonic(self) -> float:
            return clock.monotonic() + sum(reading)

    scheduler = CommitScheduler(writer, Clock(), lambda: turns, written=lambda _: reading.append(7.0))
    for _ in range(3):
        batch(scheduler, writer, 1, deferrable=True)

    assert writer.commits == [1]
    assert [delay for delay, _ in turns.later] == pytest.approx([0.005])


def test_a_commit_that_is_cut_off_is_over_all_the_same(
    scheduler: CommitScheduler, writer: Writer, written: list[bool]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    writer.on_write = interrupt
    with pytest.raises(KeyboardInterrupt):
        append(scheduler, writer)

    assert written == [False]


def test_an_urgent_batch_takes_along_what_was_deferred(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    batch(scheduler, writer, 1, deferrable=True)
    batch(scheduler, writer, 2, deferrable=True)
    scheduler.begin()
    batch(scheduler, writer, 1)
    scheduler.end(deferrable=True)

    assert (writer.commits, turns.later[0][1].cancelled) == ([1, 3], True)


def test_nothing_is_deferred_without_a_running_loop(writer: Writer, clock: ManualClock) -> None:
    scheduler = CommitScheduler(writer, clock, lambda: None)
    batch(scheduler, writer, 1, deferrable=True)
    batch(scheduler, writer, 2, deferrable=True)

    assert writer.commits == [1, 2]


def test_deferred_batches_wait_no_longer_once_much_is_pending(
    scheduler: CommitScheduler, writer: Writer, written: list[bool]
) -> None:
    batch(scheduler, writer, 1, deferrable=True)
    batch(scheduler, writer, SLICE - 1, deferrable=True)
    assert writer.commits == [1]
    batch(scheduler, writer, 1, deferrable=True)

    assert (writer.commits, written) == ([1, SLICE], [True, True])


def test_a_commit_that_leads_to_another_flush_is_not_entered_twice(scheduler: CommitScheduler, writer: Writer) -> None:
    writer.on_write = scheduler.flush
    writer.pending = [None] * 2
    scheduler.flush()

    assert writer.commits == [2]


def test_records_that_had_to_wait_are_committed_a_slice_in_each_turn_of_the_loop(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    writer.problem = "the disk is full"
    append(scheduler, writer, 2 * SLICE + 1)
    assert (writer.commits, scheduler.at_rest.is_set()) == ([], True)

    writer.mended = True
    batch(scheduler, writer, 0)
    assert (writer.commits, scheduler.at_rest.is_set()) == ([SLICE], False)
    batch(scheduler, writer, 1)
    assert writer.commits == [SLICE], "what comes meanwhile waits for its turn"
    turns.turn()
    assert (writer.commits, writer.recoveries) == ([SLICE, SLICE], 0)
    turns.turn()

    assert (writer.commits, writer.recoveries) == ([SLICE, SLICE, 2], 1)
    assert scheduler.at_rest.is_set()


def test_slices_end_where_the_journal_fails_again(scheduler: CommitScheduler, writer: Writer, turns: Turns) -> None:
    writer.problem = "the disk is full"
    append(scheduler, writer, 2 * SLICE)
    writer.mended = True
    scheduler.flush()
    writer.mended = False
    turns.turn()

    assert (writer.commits, scheduler.at_rest.is_set(), turns.soon) == ([SLICE], True, [])


def test_it_is_at_rest_only_behind_the_last_slice(scheduler: CommitScheduler, writer: Writer, turns: Turns) -> None:
    writer.problem = "the disk is full"
    append(scheduler, writer, 3 * SLICE)
    writer.mended = True
    scheduler.flush()
    rested = [scheduler.at_rest.is_set()]
    for _ in range(2):
        turns.turn()
        rested.append(scheduler.at_rest.is_set())

    assert (writer.commits, rested) == ([SLICE] * 3, [False, False, True])


def test_nothing_is_committed_in_the_midst_of_a_commit(scheduler: CommitScheduler, writer: Writer) -> None:
    """A sink may open a batch: the records behind would reach the sinks before those that are being sent."""
    under_way = [0]

    def open_a_batch() -> None:
        under_way.append(under_way[-1] + 1)
        batch(scheduler, writer, 0)
        under_way.append(under_way[-1] - 1)

    writer.on_write = open_a_batch
    writer.problem = "the disk is full"
    append(scheduler, writer, 2 * SLICE)
    writer.mended = True
    scheduler.flush()

    assert (writer.commits, max(under_way)) == ([SLICE], 1)


def test_while_nothing_can_be_written_each_deferrable_batch_is_another_try(
    scheduler: CommitScheduler, writer: Writer, turns: Turns, written: list[bool]
) -> None:
    writer.problem = "the disk is full"
    for _ in range(3):
        batch(scheduler, writer, 1, deferrable=True)
    assert (len(written), turns.later) == (3, [])

    writer.pending.clear()
    batch(scheduler, writer, 0, deferrable=True, linger=0.02)
    writer.mended = True
    turns.later[0][1].act()

    assert (writer.recoveries, [delay for delay, _ in turns.later]) == (1, [0.02])


def test_a_batch_that_lingers_for_less_than_the_delay_waits_for_that(
    scheduler: CommitScheduler, writer: Writer, turns: Turns
) -> None:
    append(scheduler, writer)
    batch(scheduler, writer, 1, deferrable=True, linger=0.001)

    assert (writer.commits, [delay for delay, _ in turns.later]) == ([1], [0.005])
