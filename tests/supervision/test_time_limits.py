"""Time limits that share one timer do what `asyncio.timeout` does."""

import asyncio
from contextlib import suppress

import pytest

from relay.clock import SystemClock, TimeLimits, call_later, rest, wait_within
from relay.testing import ManualClock
from tests.manual_timers import ManualTimers


async def test_an_await_that_takes_too_long_is_a_timeout() -> None:
    limits = TimeLimits(0.0)
    with pytest.raises(TimeoutError), limits.limit() as limit:
        await asyncio.get_running_loop().create_future()

    assert limit.expired
    assert (task := asyncio.current_task()) is not None
    assert task.cancelling() == 0


async def test_each_of_many_is_timed_out_by_the_one_timer() -> None:
    limits = TimeLimits(0.0)

    async def wait() -> bool:
        with limits.limit() as limit:
            await asyncio.get_running_loop().create_future()
        return limit.expired

    found = await asyncio.gather(*(wait() for _ in range(20)), return_exceptions=True)
    assert {type(each) for each in found} == {TimeoutError}


async def test_what_is_over_in_time_is_left_alone() -> None:
    limits = TimeLimits(60.0)
    with limits.limit() as limit:
        await asyncio.sleep(0)
    limits.close()

    assert not limit.expired


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    limits, begun = TimeLimits(60.0), asyncio.Event()

    async def wait() -> None:
        with limits.limit():
            begun.set()
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    limits.close()


async def test_a_cancellation_that_comes_with_the_timeout_stays_one() -> None:
    limits, begun = TimeLimits(60.0), asyncio.Event()
    limit = limits.limit()

    async def wait() -> None:
        with limit:
            begun.set()
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(wait())
    await begun.wait()
    limit.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limits.close()


async def test_an_error_that_comes_with_the_timeout_is_raised_as_it_is() -> None:
    async def give_up() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), TimeLimits(0.0).limit():
        await give_up()


def test_limits_serve_one_event_loop_after_the_other() -> None:
    limits = TimeLimits(0.0)

    async def wait() -> None:
        with pytest.raises(TimeoutError), limits.limit():
            await asyncio.get_running_loop().create_future()

    async def leave() -> None:
        with limits.limit():
            pass

    for work in (leave, wait, leave, wait):
        asyncio.run(work())


async def test_no_limit_is_none() -> None:
    with TimeLimits(None).limit() as limit:
        await asyncio.sleep(0)

    assert not limit.expired


@pytest.mark.parametrize("clock", [SystemClock(1000.0), ManualClock(auto=True)], ids=["machine", "manual"])
async def test_what_is_to_come_comes_unless_it_is_cancelled(clock: SystemClock | ManualClock) -> None:
    came: list[str] = []
    done = asyncio.Event()
    call_later(clock, 5.0, lambda: came.append("cancelled")).cancel()
    call_later(clock, 10.0, lambda: came.append("first"))
    call_later(clock, 20.0, done.set)
    await done.wait()

    assert came == ["first"]


async def test_a_rest_ends_with_its_time_or_with_news_and_leaves_no_sleeper() -> None:
    clock, news = ManualClock(), asyncio.Event()
    resting = asyncio.create_task(rest(clock, 5.0, news))
    await clock.advance(4.0)
    rested = resting.done()
    await clock.advance(1.0)
    await resting

    woken = asyncio.create_task(rest(clock, 5.0, news))
    await clock.sleeping()
    news.set()
    await woken
    await asyncio.sleep(0)
    assert (rested, clock.sleepers) == (False, 0)


async def test_a_wait_that_is_over_leaves_the_future_as_it_is_and_does_not_raise_its_error() -> None:
    clock, future = ManualClock(), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_within(clock, 5.0, future))
    await clock.sleeping()
    await clock.advance(5.0)
    await waiting
    assert not future.done()

    future.set_exception(ConnectionError())
    await wait_within(clock, 5.0, future)
    assert isinstance(future.exception(), ConnectionError)


class Waits:
    """A task that waits within a limit, and then for something else."""

    def __init__(self, limits: TimeLimits) -> None:
        self.limits = limits
        self.goes_on, self.ends = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> str:
        try:
            with self.limits.limit():
                await self.goes_on.wait()
        except TimeoutError:
            return "timed out"
        await self.ends.wait()
        return "over in time"


async def some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_limit_is_over_at_its_own_time_and_none_behind_its_await(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, limits = ManualTimers(), TimeLimits(10.0)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    waits: list[Waits] = []
    for at in (0.0, 4.0, 6.0):
        loop.passes_to(at)
        waits.append(Waits(limits))
        await some_turns()
    assert loop.times == [10.0]
    waits[1].goes_on.set()
    await some_turns()
    loop.passes_to(10.0)
    await some_turns()
    assert ([each.task.done() for each in waits], loop.times) == ([True, False, False], [16.0])
    loop.passes_to(16.0)
    await some_turns()
    assert ([each.task.done() for each in waits], loop.timers) == ([True, False, True], [])
    waits[1].ends.set()
    assert [await each.task for each in waits] == ["timed out", "over in time", "timed out"]

    loop.passes_to(20.0)
    last = Waits(limits)
    await some_turns()
    assert loop.times == [30.0], "a timer for the next one"
    other = ManualTimers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: other)
    last.goes_on.set()
    last.ends.set()
    assert await last.task == "over in time"
    begun = Waits(limits)
    await some_turns()
    assert other.times == [10.0], "a timer of the loop that runs now"
    begun.goes_on.set()
    begun.ends.set()
    await begun.task


async def test_a_cancellation_that_was_before_the_limit_is_not_taken_for_one_within_it() -> None:
    async def wait() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        with TimeLimits(0.0).limit():
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        await asyncio.create_task(wait())


async def test_a_quick_clock_calls_as_much_sooner() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    handle = SystemClock(speed=10.0).call_later(50_000.0, print)
    after = loop.time()
    handle.cancel()

    # A second on either side: uvloop counts in whole milliseconds, and their sum is rounded.
    assert before + 4_999.0 < handle.when() < after + 5_001.0
