"""A start that waits for the server of the journal, which may come up later than the relay."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, Final, TypeVar

from relay import JournalError
from relay.cli import say

__all__ = ["Patience", "StoppedWaitingError"]

T = TypeVar("T")

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts; they double, with jitter, so that the relays of a cluster do not come all at once."""


class StoppedWaitingError(Exception):
    """The command is to end, and has not begun."""


class Patience:
    """Repeats what fails with a JournalError until it succeeds, or *stop* is set.

    *meanwhile* is entered at the first failure, and left before that returns. *sleep* waits for so many seconds.
    """

    def __init__(
        self,
        stop: asyncio.Event,
        meanwhile: Callable[[], AbstractAsyncContextManager[object]],
        *,
        sleep: Callable[[float], Coroutine[Any, Any, object]] = asyncio.sleep,
    ) -> None:
        self._stop = stop
        self._meanwhile = meanwhile
        self._sleep = sleep

    async def until_done(self, attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *attempt* returns once it succeeds; each reason why it fails is reported once.

        Raises StoppedWaitingError if *stop* is set before, and whatever else *attempt* raises: no repetition mends it.
        """
        pause, reported = FIRST_PAUSE, ""
        async with AsyncExitStack() as stack:
            while True:
                try:
                    return await self._unless_stopped(attempt())
                except JournalError as error:
                    if not reported:
                        await stack.enter_async_context(self._meanwhile())
                    if reported != str(error):
                        reported = str(error)
                        say(f"the relay waits to start: {reported}")
                await self._unless_stopped(self._sleep(pause * random.uniform(0.5, 1.0)))  # noqa: S311 - no secret
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise StoppedWaitingError
            return working.result()
        finally:
            stopping.cancel()
            working.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await working
