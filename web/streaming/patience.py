"""How long the relay waits for its clients: in time in which it was running, so that a stall of the machine, which
delays healthy clients and the relay alike, is held against no client."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

from web.running_time import RunningTime

__all__ = ["LOOK_EVERY", "STALL", "ClientWaits", "Patience", "WaitLimits"]

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at the clock while any client is waited for."""

STALL: Final = 2 * LOOK_EVERY
"""Seconds between two looks beyond which the loop did not run."""

BYTES_A_SECOND: Final = 100_000
"""A reader that accepts as much is well: these are some 200 records a second."""

TIMES: Final = 5
"""How many times as long the relay waits for a reader that is well, until it is slow nevertheless."""

LOOKS: Final = 10
"""How many times per send timeout the relay looks whether a client that it waits for has read anything."""

_Wait = TypeVar("_Wait")


class Patience:
    """Whether a reader is slow: for how long the relay has waited for it since it fell behind. No I/O.

    The time in which the reader waits for the relay does not count: for its turn, or for a loop that stands still. Nor
    does the time that BYTES_A_SECOND allow for what the reader has accepted: on a busy machine many readers that are
    well take that long. A reader that accepts as much and yet stays behind is slow after TIMES as many seconds.
    """

    def __init__(self, seconds: float) -> None:
        self._most = self._left = seconds
        self._in_all = seconds * TIMES

    @property
    def is_over(self) -> bool:
        return self._left <= 0 or self._in_all <= 0

    def waited(self, seconds: float, accepted: int = 0) -> None:
        """The relay has waited for these *seconds* until the reader's connection had *accepted* so many bytes."""
        self._in_all -= seconds
        self._left = min(self._most, self._left - seconds + accepted / BYTES_A_SECOND)


class WaitLimits(Generic[_Wait]):
    """Which waits have lasted longer than they may, in time in which the loop was running. No I/O."""

    def __init__(self) -> None:
        self._running = RunningTime(STALL)
        self._ends: dict[_Wait, float] = {}
        self._first = math.inf

    def running(self, now: float) -> float:
        """Seconds of running time. Only differences matter, and they are right while some wait is under way."""
        return self._running.at(now)

    def begin(self, wait: _Wait, seconds: float, now: float) -> None:
        end = self._ends[wait] = self._running.at(now) + seconds
        self._first = min(self._first, end)

    def end(self, wait: _Wait) -> None:
        """*wait* is over. Idempotent."""
        self._ends.pop(wait, None)
        if not self._ends:
            self._first = math.inf

    def overdue(self, now: float) -> list[_Wait]:
        """The waits that have lasted too long, each of them once."""
        running = self._running.at(now)
        if running < self._first:
            return []
        overdue = [wait for wait, end in self._ends.items() if end <= running]
        for wait in overdue:
            del self._ends[wait]
        self._first = min(self._ends.values(), default=math.inf)
        return overdue

    def next_look(self, now: float) -> float | None:
        """Seconds until the next look is due; None if nothing waits."""
        if not self._ends:
            return None
        return max(0.0, min(LOOK_EVERY, self._first - self._running.at(now)))


class ClientWaits:
    """The waits for clients of one application. One timer looks at the clock for all of them, if there are any.

    *now* is a monotonic clock.
    """

    def __init__(self, send_timeout: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.send_timeout: float = send_timeout
        self._now = now
        self._limits: WaitLimits[asyncio.Timeout] = WaitLimits()
        self._timer: asyncio.TimerHandle | None = None

    def running(self) -> float:
        """Seconds of running time: the difference of two is what passed while a client was waited for."""
        return self._limits.running(self._now())

    @asynccontextmanager
    async def limit(self, seconds: float | None = None) -> AsyncGenerator[None]:
        """Raises TimeoutError if the block takes longer than *seconds* of running time, the send timeout by default."""
        async with asyncio.timeout(None) as wait:
            within = self.send_timeout if seconds is None else seconds
            self._limits.begin(wait, within, self._now())
            if self._timer is None or within < LOOK_EVERY:
                self._schedule_look()
            try:
                yield
            finally:
                self._limits.end(wait)

    async def while_reading(self, drained: Callable[[], Awaitable[object]], progress: Callable[[], object]) -> None:
        """Await *drained*, anew each time *progress* is looked at, which is another one once the client has read more.

        Raises ConnectionError after the send timeout, or two tenths more, in which the client has read nothing.
        """
        reached: object = None  # most waits end before the first look
        looks = 0
        while looks < LOOKS:
            try:
                async with self.limit(self.send_timeout / LOOKS):
                    await drained()
                    return
            except TimeoutError:
                before, reached = reached, progress()
                looks = looks + 1 if reached == before else 0
        raise ConnectionError("the client reads nothing")

    def look(self) -> None:
        """End the waits that have lasted too long. The timer calls it."""
        now = asyncio.get_running_loop().time()
        for wait in self._limits.overdue(self._now()):
            wait.reschedule(now)
        self._schedule_look()

    def _schedule_look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        pause = self._limits.next_look(self._now())
        self._timer = None if pause is None else asyncio.get_running_loop().call_later(pause, self.look)
