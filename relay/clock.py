"""Time, as it is handed to everything that needs it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Two readings and one wait. Tests hand in `relay.testing.ManualClock`."""

    def now(self) -> datetime:
        """The time of day, in UTC: for people, and for nothing else, since it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from some fixed point; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when *seconds* have passed on the monotonic reading."""
        ...


class SystemClock:
    """The machine's own clocks; with *speed*, a clock on which *speed* seconds pass in one."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._wall_start = time.time()
        self._start = time.monotonic()

    def now(self) -> datetime:
        if self._speed == 1.0:
            return datetime.now(UTC)
        return datetime.fromtimestamp(self._wall_start + self.monotonic() - self._start, UTC)

    def monotonic(self) -> float:
        return self._start + (time.monotonic() - self._start) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._speed)
