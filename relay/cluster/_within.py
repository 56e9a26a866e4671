"""A wait with a bound, which ends what it waits for, on a clock that is handed in."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from relay.clock import Clock

__all__ = ["within"]

TURNS: Final = 10
"""Turns of the loop that *work* has left when the time is over. After the process stood still, its answer is here."""

T = TypeVar("T")


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await *work*, for *seconds* at most; then it is cancelled, and TimeoutError is raised."""
    task = asyncio.create_task(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        for _ in range(TURNS):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            raise TimeoutError(f"not done within {seconds:g} s")
        return task.result()
    finally:
        timer.cancel()
        task.cancel()
        task.add_done_callback(_forget)


def _forget(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()  # or asyncio logs that it was never retrieved
