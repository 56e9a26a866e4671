"""Attempts at work that is awaited: isolated, with a time limit, one after the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from relay.clock import Clock, SystemClock
from relay.errors import UsageError
from relay.notices import INTERRUPTIONS

__all__ = ["ATTEMPT_TIMEOUT", "Attempts", "Work"]

Work: TypeAlias = Callable[[Any], Awaitable[object]]
"""Awaited with one record, or with a list of records if the sink works in batches."""

ATTEMPT_TIMEOUT: Final = 30.0


class Attempts:
    """Awaits *work*, for *timeout* seconds at most. Nothing that it raises passes through, but Ctrl-C and an exit.

    An attempt that ignores its cancellation is left behind, and no other begins before it has ended: there is at most
    one. Raises UsageError for a time that is not above 0.
    """

    def __init__(self, work: Work, timeout: float = ATTEMPT_TIMEOUT, clock: Clock | None = None) -> None:
        if timeout <= 0:
            raise UsageError(f"an attempt needs some time, not {timeout:g} s")
        self.clock: Clock = clock or SystemClock()
        self._work = work
        self._timeout = timeout
        self._left_behind: asyncio.Task[BaseException | None] | None = None

    async def make(self, given: object) -> BaseException | None:
        """One attempt; return how it failed, None if it succeeded."""
        timer = asyncio.ensure_future(self.clock.sleep(self._timeout))
        try:
            if self._left_behind is not None:
                await asyncio.wait((self._left_behind, timer), return_when=asyncio.FIRST_COMPLETED)
                if not self._left_behind.done():
                    return TimeoutError("an earlier attempt has ignored its cancellation and is still under way")
                self._left_behind = None
            return await self._within(timer, given)
        finally:
            timer.cancel()

    async def ended(self) -> None:
        """Return once no attempt that was left behind is under way."""
        if self._left_behind is not None and not self._left_behind.done():
            await asyncio.wait((self._left_behind,))

    async def _within(self, timer: "asyncio.Future[None]", given: object) -> BaseException | None:
        attempt = asyncio.ensure_future(_awaited(self._work, given))
        try:
            await asyncio.wait((attempt, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not attempt.done():
                self._left_behind = attempt
                attempt.add_done_callback(_forget)
                attempt.cancel()
        return attempt.result() if attempt.done() else TimeoutError(f"not done within {self._timeout:g} s")


async def _awaited(work: Work, given: object) -> BaseException | None:
    """Await *work*; return its error. Without a cancellation of this task, a CancelledError is one, too."""
    try:
        await work(given)
    except INTERRUPTIONS:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return error
    except BaseException as error:
        return error
    return None


def _forget(task: "asyncio.Task[BaseException | None]") -> None:
    """Look at the result of what was left behind, so that the event loop has nothing to complain about."""
    if not task.cancelled():
        task.exception()
