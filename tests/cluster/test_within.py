"""A wait with a bound ends at the bound, and takes an answer that is here by then."""

import asyncio

import pytest

from relay.cluster._within import within
from relay.testing import ManualClock


async def answer(after: asyncio.Event, turns: int) -> str:
    await after.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    return "answer"


async def test_work_that_takes_longer_is_cancelled() -> None:
    clock, never = ManualClock(), asyncio.Event()
    waiting = asyncio.create_task(within(clock, 2.0, answer(never, 0)))
    await clock.sleeping()
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.1)

    with pytest.raises(TimeoutError, match="not done within 2 s"):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_answer_that_arrives_with_the_end_of_the_time_is_accepted() -> None:
    """As after a process stood still: the timer fires first, and the loop has not read the reply yet."""
    goes_on = asyncio.Event()

    class StoodStill(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await goes_on.wait()

    waiting = asyncio.create_task(within(StoodStill(), 2.0, answer(goes_on, 5)))
    await asyncio.sleep(0)
    goes_on.set()

    assert await waiting == "answer"


async def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await within(ManualClock(), 2.0, fail())
