"""A clock that is moved by hand, so that no test waits."""

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Final

__all__ = ["ManualClock"]

_SETTLING: Final = 100
"""How many turns of the event loop pass before time moves on by itself.

An exchange of aiohttp with itself over loopback needs five to ten, so it completes before the next jump.
"""

_ALONE: Final = 10
"""How many turns in a row must find nothing else ready, where the event loop shows what is ready.

One would do for tasks. Bytes sent over loopback are ready at the next turn; the others are for a kernel that is late.
"""


class ManualClock:
    """A `relay.clock.Clock` that stands still until a test moves it.

    It starts at 2026-01-01 00:00 UTC. With *auto* it moves by itself: once a task sleeps, and the event loop has had
    nothing else to run for ten turns, or no other task has gone to sleep for a hundred, it jumps to the next time that
    a task waits for. A job of 25 minutes takes as long as its requests. It knows of no work in another process or
    thread. It belongs to one event loop.
    """

    def __init__(self, *, auto: bool = False, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._auto = auto
        self._numbers = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals: list[tuple[int, asyncio.Future[None]]] = []
        self._quiet = _Quiet()
        self._ticking = False

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[2].done()]
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._elapsed + seconds, next(self._numbers), woken))
        self._announce()
        if self._auto:
            self._quiet = _Quiet()
            self._tick()
        await woken

    async def sleeping(self, at_least: int = 1) -> None:
        """Return when that many tasks are asleep: a test waits for this before it moves the clock."""
        if self.sleepers < at_least:
            arrived = asyncio.get_running_loop().create_future()
            self._arrivals.append((at_least, arrived))
            await arrived

    async def advance(self, seconds: float) -> None:
        """Move on by *seconds*. Stop at each time that a task waits for, in order, until the woken tasks have acted.

        A task that sleeps again within that time is woken again.
        """
        end = self._elapsed + seconds
        await self._settled()
        while self.sleepers and self._next() <= end:
            self._wake_next()
            await self._settled()
        self._elapsed = end

    def _next(self) -> float:
        return min(self._sleepers)[0]

    def _wake_next(self) -> None:
        self._elapsed = max(self._elapsed, self._next())
        self._sleepers.sort()
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            _, _, woken = heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def _announce(self) -> None:
        asleep = self.sleepers
        for at_least, arrived in self._arrivals:
            if asleep >= at_least and not arrived.done():
                arrived.set_result(None)
        self._arrivals = [waiting for waiting in self._arrivals if not waiting[1].done()]

    async def _settled(self) -> None:
        quiet = _Quiet()
        for _ in range(_SETTLING):
            if quiet.after_a_turn():
                return
            await asyncio.sleep(0)

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._ticking = False
        if not self.sleepers:
            return
        if self._quiet.after_a_turn():
            self._quiet = _Quiet()
            self._wake_next()
        if self.sleepers:
            self._tick()


class _Quiet:
    """Counts turns of the running event loop until what runs on it can be expected to wait for the clock."""

    def __init__(self) -> None:
        self._turns = 0
        self._alone = 0

    def after_a_turn(self) -> bool:
        """Count a turn; return whether those so far are enough."""
        # asyncio's own loops keep what is ready in `_ready`, all versions of them; uvloop does not show it.
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        self._turns += 1
        self._alone = self._alone + 1 if ready is not None and not ready else 0
        return self._alone >= _ALONE or self._turns >= _SETTLING
