"""What a relay does for its journal: what could not be written is tried again, and what was is looked after."""

import asyncio
from typing import Final

from relay.bus.bus import Bus
from relay.clock import Clock

__all__ = ["Upkeep"]

WRITE_AGAIN_AFTER: Final = 1.0
CHECK_EVERY: Final = 5.0


class Upkeep:
    """Two endless tasks, and an end in order."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def write_again(self) -> None:
        """Retry what the journal could not store, also while nothing new is published."""
        while True:
            await self._bus.write_blocked.wait()
            await self._clock.sleep(WRITE_AGAIN_AFTER)
            self._write()

    async def look_after(self) -> None:
        """Check that the journal is still in its place, also while nothing is written, by the real time of the loop."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            self._bus.check()

    async def settle(self) -> None:
        """Write what waits, a last time, and send it."""
        self._write()
        await self._bus.drained()

    async def close(self) -> None:
        """Close the journal, and notify the operator of records that it could never store."""
        await self._bus.close()

    def _write(self) -> None:
        with self._bus.batch():
            pass
