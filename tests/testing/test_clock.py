"""The manual clock moves only as told, wakes in order, and in its automatic mode lets requests arrive first."""

import asyncio
import selectors
from datetime import UTC, datetime, timedelta

import pytest

from relay.clock import Clock
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora


async def ticks(clock: Clock, name: str, interval: float, count: int, seen: list[tuple[str, float]]) -> None:
    for _ in range(count):
        await clock.sleep(interval)
        seen.append((name, clock.monotonic()))


async def test_it_starts_at_a_fixed_instant_and_stands_still() -> None:
    clock = ManualClock()
    await asyncio.sleep(0)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 1, 1, tzinfo=UTC), 0.0)


async def test_both_readings_move_together() -> None:
    clock = ManualClock(start=datetime(2026, 5, 5, tzinfo=UTC))
    await clock.advance(90.5)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 5, 5, 0, 1, 30, 500_000, UTC), 90.5)


async def test_sleepers_wake_at_their_times_in_order_also_those_who_sleep_again() -> None:
    clock, seen = ManualClock(), list[tuple[str, float]]()
    async with asyncio.TaskGroup() as group:
        group.create_task(ticks(clock, "a", 3.0, 3, seen))
        group.create_task(ticks(clock, "b", 2.0, 4, seen))
        await clock.advance(7.0)
        assert seen == [("b", 2.0), ("a", 3.0), ("b", 4.0), ("a", 6.0), ("b", 6.0)]
        assert clock.monotonic() == 7.0
        await clock.advance(2.0)
    assert seen[5:] == [("b", 8.0), ("a", 9.0)]


async def test_those_who_wait_for_the_same_time_wake_in_the_order_they_came() -> None:
    clock, seen = ManualClock(), list[tuple[str, float]]()
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(ticks(clock, name, 1.0, 1, seen))
        await clock.advance(1.0)
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


async def test_a_sleeper_stays_asleep_until_its_time() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await clock.advance(4.999)
    assert (sleeper.done(), clock.sleepers) == (False, 1)
    await clock.advance(0.001)
    assert (sleeper.done(), clock.sleepers) == (True, 0)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_is_no_sleep(seconds: float) -> None:
    await ManualClock().sleep(seconds)


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await clock.sleeping()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.sleepers == 0
    await clock.advance(10.0)
    assert clock.monotonic() == 10.0


async def test_a_test_can_wait_until_so_many_sleep() -> None:
    clock = ManualClock()
    waiting = asyncio.create_task(clock.sleeping(2))
    async with asyncio.TaskGroup() as group:
        group.create_task(clock.sleep(1.0))
        await clock.sleeping()
        assert not waiting.done()
        group.create_task(clock.sleep(1.0))
        await waiting
        await clock.advance(1.0)


async def test_an_automatic_clock_jumps_to_whoever_is_next() -> None:
    clock, seen = ManualClock(auto=True), list[tuple[str, float]]()
    async with asyncio.TaskGroup() as group:
        group.create_task(ticks(clock, "a", 3.0, 2, seen))
        group.create_task(ticks(clock, "b", 2.0, 3, seen))
    assert seen == [("b", 2.0), ("a", 3.0), ("b", 4.0), ("a", 6.0), ("b", 6.0)]


async def test_an_automatic_clock_waits_for_others_after_each_who_goes_to_sleep() -> None:
    async def busy(turns: int, seconds: float) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await clock.sleep(seconds)
        woken.append(clock.monotonic())

    clock, woken = ManualClock(auto=True), list[float]()
    await asyncio.gather(busy(0, 1.0), busy(60, 0.5), busy(120, 0.25))
    assert woken == [0.25, 0.5, 1.0]


class CountingSelector(selectors.DefaultSelector):
    """Counts the turns of the event loop that it serves."""

    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        return super().select(timeout)


@pytest.mark.parametrize("auto", [True, False])
def test_where_the_loop_shows_what_is_ready_time_moves_once_it_has_run_nothing_else_for_a_few_turns(auto: bool) -> None:
    async def sleep_a_hundred_times() -> None:
        clock = ManualClock(auto=auto)
        sleeper = asyncio.create_task(ticks(clock, "a", 1.0, 100, []))
        if not auto:
            await clock.advance(100.0)
        await sleeper

    selector = CountingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(sleep_a_hundred_times())
    assert 1_000 < selector.turns < 1_500


async def test_a_task_that_is_always_ready_does_not_stop_time() -> None:
    async def spin() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)

    clock = ManualClock(auto=True)
    spinning = asyncio.create_task(spin())
    await clock.sleep(1.0)
    assert not spinning.done()
    await spinning


async def test_a_story_of_25_minutes_needs_no_waiting_though_its_requests_are_real() -> None:
    """Another sleeper, with a shorter rhythm, does not push time on while a request is under way."""
    clock = ManualClock(auto=True)
    heartbeats: list[tuple[str, float]] = []
    times: list[timedelta] = []
    async with (
        ScriptedUpstream(clock=clock, scenario="never-finishes") as upstream,
        Sora(upstream.url, upstream.token) as sora,
    ):
        task = upstream.add_task()
        heart = asyncio.create_task(ticks(clock, "heartbeat", 0.7, 10_000, heartbeats))
        for _ in range(600):
            started = clock.now()
            assert task in (await sora.observe([task])).tasks
            times.append(clock.now() - started)
            await clock.sleep(2.5)
        heart.cancel()
    assert clock.monotonic() == 1500.0
    assert (len(heartbeats), upstream.requests["nf/pending/v2"]) == (2142, 600)
    assert set(times) == {timedelta(0)}
