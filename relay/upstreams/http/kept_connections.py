"""Idle connections of aiohttp's connector, kept at hand: to lend one costs it more than the request does otherwise."""

import asyncio
from collections import deque
from typing import Final

from aiohttp.connector import Connection

__all__ = ["KEPT", "KEPT_SECONDS", "KeptConnections"]

KEPT: Final = 50
"""The most that are kept: half of those that the connector allows, so that other requests find room."""

KEPT_SECONDS: Final = 15.0
"""How long one is kept without a request, as the connector keeps its own."""


class KeptConnections:
    """Connections between two requests. The one that was used last is the first to be used again."""

    def __init__(self) -> None:
        self._idle: deque[tuple[Connection, float]] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Connection | None:
        """A connection that can be used, if there is one."""
        while self._idle:
            connection, since = self._idle.pop()
            protocol = connection.protocol
            usable = protocol is not None and protocol.is_connected() and not protocol.should_close
            if usable and asyncio.get_running_loop().time() - since <= KEPT_SECONDS:
                return connection
            # It is old, or the server has closed it, or bytes arrived without a request.
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep *connection*, whose answer was read whole. Where there are enough, the connector has it back."""
        if len(self._idle) >= KEPT:
            return connection.release()
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        if self._sweep is None:
            self._sweep = loop.call_later(KEPT_SECONDS, self._drop_old)
        return None

    def close(self) -> None:
        """Close all, and leave no timer behind."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.pop()[0].close()

    def _drop_old(self) -> None:
        loop, self._sweep = asyncio.get_running_loop(), None
        while self._idle:
            connection, since = self._idle[0]
            left = since + KEPT_SECONDS - loop.time()
            if left > 0:
                self._sweep = loop.call_later(left, self._drop_old)
                break
            self._idle.popleft()
            connection.close()
