"""Slow work behind a queue: in order, once, tried again, bounded in time, and accounted for when it ends."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import UsageError
from relay.events import Record
from relay.queue import EndpointGone, Queued, Retries, RetryLater, Undeliverable
from relay.testing import ManualClock
from tests.queue.records import log

ONCE = Retries(attempts=1)


class Far:
    """The far end: it notes what it gets, and fails with what *trouble* says, call by call."""

    def __init__(self, *trouble: BaseException | None) -> None:
        self.received: list[Any] = []
        self.calls = 0
        self._trouble = list(trouble)

    async def __call__(self, given: Any) -> None:
        self.calls += 1
        error = self._trouble.pop(0) if self._trouble else None
        if error is not None:
            raise error
        self.received.append([one.seq for one in given] if isinstance(given, list) else getattr(given, "seq", given))


def queued(work: Callable[[Any], Any], notices: list[str] | None = None, **options: Any) -> tuple[Queued, ManualClock]:
    clock = ManualClock(auto=True)
    sink = Queued(work, **options)
    sink.bind(clock, (notices if notices is not None else []).append, "far")
    return sink, clock


async def through(sink: Queued, *numbers: int) -> None:
    async with sink:
        for number in numbers:
            sink(log(number))


async def test_each_record_is_delivered_once_and_in_order() -> None:
    far = Far()
    sink, _ = queued(far)
    await through(sink, *range(1, 51))
    assert far.received == list(range(1, 51))
    assert sink.counts().delivered == 50


async def test_a_batch_is_full_or_has_waited_for_its_time() -> None:
    far = Far()
    sink, clock = queued(far, batch=(3, 5.0))
    async with sink:
        for number in (1, 2, 3, 4):
            sink(log(number))
        while len(far.received) < 2:
            await clock.sleep(1.0)
        assert clock.monotonic() >= 5.0
        sink(log(5))
    assert far.received == [[1, 2, 3], [4], [5]]


async def test_a_failure_is_tried_again_with_the_same_records_until_it_succeeds() -> None:
    notices: list[str] = []
    far = Far(OSError("no route"), asyncio.CancelledError(), TimeoutError())
    sink, _ = queued(far, notices)
    await through(sink, 1, 2)
    assert (far.received, far.calls) == ([1, 2], 5)
    assert sink.counts().delivered == 2
    assert notices == [
        "sink far failed: OSError: no route; it is tried again",
        "sink far works again; given up on meanwhile: 0 records",
    ]


async def test_the_far_end_names_the_time_of_the_next_attempt() -> None:
    far = Far(RetryLater("busy", after=20.0))
    sink, clock = queued(far)
    async with sink:
        sink(log(1))
        while not far.received:
            await clock.sleep(1.0)
    assert 20.0 <= clock.monotonic() < 23.0


@pytest.mark.parametrize(
    ("error", "retries", "calls"),
    [(Undeliverable("too large"), None, 2), (OSError("down"), ONCE, 2), (OSError("down"), Retries(attempts=3), 4)],
)
async def test_what_is_given_up_on_counts_as_failed_and_the_next_record_follows(
    error: Exception, retries: Retries | None, calls: int
) -> None:
    notices: list[str] = []
    far = Far(*[error] * (calls - 1))
    sink, _ = queued(far, notices, retries=retries)
    await through(sink, 1, 2)
    assert (far.received, far.calls) == ([2], calls)
    assert (sink.counts().failed, sink.counts().delivered, sink.missed) == (1, 1, 1)
    assert any("has given up on 1 record" in notice for notice in notices)


async def test_work_that_hangs_has_its_time_and_is_cancelled() -> None:
    cancelled: list[int] = []

    async def hang(record: Record) -> None:
        if record.seq == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(record.seq)

    sink, clock = queued(hang, timeout=10.0, retries=ONCE)
    async with sink:
        sink(log(1))
        sink(log(2))
        while sink.counts().waiting:
            await clock.sleep(1.0)
    assert (cancelled, sink.counts().failed, sink.counts().delivered) == ([1], 1, 1)


async def test_work_that_ignores_its_cancellation_is_left_behind_and_never_runs_twice_at_a_time() -> None:
    free, running = asyncio.Event(), 0

    async def stubborn(record: Record) -> None:
        nonlocal running
        running += 1
        assert running == 1
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        running -= 1

    notices: list[str] = []
    sink, clock = queued(stubborn, notices, timeout=1.0, retries=Retries(within=10_000.0), drain_within=600.0)
    async with sink:
        sink(log(1))
        while sink.breaker == "closed":
            await clock.sleep(1.0)
        free.set()
    assert sink.counts().delivered == 1
    assert any("set aside" in notice for notice in notices)


async def test_a_far_end_that_wants_nothing_any_more_closes_the_sink() -> None:
    notices: list[str] = []
    far = Far(EndpointGone("410"))
    sink, _ = queued(far, notices)
    await through(sink, 1, 2, 3)
    assert (far.calls, sink.counts().failed, sink.counts().dropped, sink.counts().waiting) == (1, 1, 2, 0)
    assert notices == ["sink far is closed, for its far end wants nothing any more: EndpointGone: 410"]


@pytest.mark.parametrize("trouble", [(EndpointGone("410"),), ()], ids=["gone", "full"])
async def test_a_closed_sink_sends_nothing_more_not_even_its_loss(trouble: tuple[BaseException, ...]) -> None:
    far, losses = Far(*trouble), list[int]()

    async def lost(number: int) -> None:
        losses.append(number)

    sink, clock = queued(far, capacity=1, on_full="close", lost=lost)
    async with sink:
        for number in (1, 2, 3):
            sink(log(number))
        while sink.counts().waiting:
            await clock.sleep(1.0)
        sink(log(4))
        await clock.sleep(1.0)
    assert (losses, far.received) == ([], [] if trouble else [1])
    assert sink.counts().dropped == 3


async def test_a_sink_that_keeps_failing_is_set_aside_and_probed() -> None:
    notices: list[str] = []
    far = Far(*[OSError("down")] * 7)
    sink, clock = queued(far, notices, retries=Retries(within=10_000.0, cap=0.5))
    async with sink:
        sink(log(1))
        await _breaker_is(sink, clock, "open")
        assert (far.calls, clock.monotonic() < 5) == (5, True)
        await _breaker_is(sink, clock, "closed")
        assert clock.monotonic() > 90
    assert far.received == [1]
    assert [notice for notice in notices if "set aside" in notice or "works again" in notice] == [
        "sink far failed 5 times in a row and is set aside; it is tried again every 30 s",
        "sink far works again; given up on meanwhile: 0 records",
    ]


async def _breaker_is(sink: Queued, clock: ManualClock, state: str) -> None:
    while sink.breaker != state:
        await clock.sleep(0.1)


async def test_a_loss_is_told_to_the_far_end_before_the_record_that_follows() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    received: list[Any] = []

    async def work(record: Record) -> None:
        began.set()
        await gate.wait()
        received.append(record.seq)

    async def lost(number: int) -> None:
        received.append(f"{number} lost")

    sink, _ = queued(work, capacity=2, lost=lost)
    async with sink:
        sink(log(1))
        await began.wait()
        for number in (2, 3, 4, 5):
            sink(log(number))
        gate.set()
    assert received == [1, "2 lost", 4, 5]
    assert (sink.counts().delivered, sink.counts().dropped) == (3, 2)


async def test_a_sink_that_falls_behind_is_reported_once_and_again_with_the_number_when_it_has_caught_up() -> None:
    notices: list[str] = []
    gate = asyncio.Event()
    done: list[int] = []

    async def work(record: Record) -> None:
        await gate.wait()
        done.append(record.seq)

    sink, _ = queued(work, notices, capacity=2)
    async with sink:
        for number in range(1, 7):
            sink(log(number))
        assert notices == ["sink far is behind and has no room: it misses records until it catches up"]
        gate.set()
        while sink.counts().waiting:  # noqa: ASYNC110 - the worker needs turns, and nothing else
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert notices[1:] == ["sink far has caught up; it has missed 4 records since it was behind"]
    assert done == [5, 6]
    assert len(notices) == 2


async def test_leaving_waits_a_bounded_time_and_reports_the_rest() -> None:
    notices: list[str] = []

    async def hang(_: Record) -> None:
        await asyncio.Event().wait()

    sink, clock = queued(hang, notices, drain_within=3.0)
    await through(sink, 1, 2, 3)
    assert clock.monotonic() == 3.0
    assert notices == ["sink far has ended before it delivered 3 records"]
    assert (sink.counts().dropped, sink.counts().waiting) == (3, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_dead_far_end_is_not_asked_without_a_pause_while_the_sink_is_left() -> None:
    far = Far(*[OSError("refused")] * 10_000)
    sink, clock = queued(far, drain_within=3.0)
    await through(sink, 1)
    assert clock.monotonic() == 3.0
    assert far.calls < 100


async def test_a_cancelled_leave_still_ends_the_work() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hang(_: Record) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    sink = Queued(hang)
    sink.bind(ManualClock(), print, "far")
    await sink.__aenter__()
    sink(log(1))
    await began.wait()
    leaving = asyncio.ensure_future(sink.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await ended.wait()


async def test_it_can_be_entered_again() -> None:
    far = Far()
    sink, _ = queued(far)
    await through(sink, 1)
    await through(sink, 2)
    assert far.received == [1, 2]


@pytest.mark.parametrize("options", [{"batch": (0, 1.0)}, {"timeout": 0.0}, {"capacity": 0}, {"on_full": "block"}])
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        Queued(Far(), **options)


@pytest.mark.parametrize("options", [{"within": -1.0}, {"base": 0.0}, {"base": 2.0, "cap": 1.0}, {"attempts": 0}])
def test_retries_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(UsageError):
        Retries(**options)
