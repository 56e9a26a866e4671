"""Which server a connection goes to: the primary that Sentinels name, or the node of a cluster that keeps the keys."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import MovedError, RedisError

__all__ = ["PrimaryPool", "Route", "RoutedConnection", "RoutedRedis", "RoutedTlsConnection"]

ASK_EVERY: Final = 1.0
"""Seconds between two questions to the Sentinels, while there are commands.

[measured] After SENTINEL FAILOVER a client that asks at errors alone came to the new primary some 10 s later, and a
write that the old one had acknowledged meanwhile was lost: no client receives a word before the old one is demoted.
"""


class PrimaryPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary that the Sentinels named last. A caller waits for a free one."""

    _asking: asyncio.Task[None] | None = None
    _ask_at = 0.0

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """A connection for one command, which does not wait for the question to the Sentinels, if that is due."""
        now = asyncio.get_running_loop().time()
        if now >= self._ask_at and (self._asking is None or self._asking.done()):
            self._ask_at = now + ASK_EVERY
            self._asking = asyncio.create_task(self._ask(), name="asking Sentinels for the primary")
        return cast("AbstractConnection", await cast("Any", super()).get_connection())

    async def release(self, connection: AbstractConnection) -> None:
        """Let go of *connection*, and close it if it is to a server that is the primary no more."""
        place = (getattr(connection, "host", None), getattr(connection, "port", None))
        if cast("Any", self).master_address not in (None, place):
            await connection.disconnect()
        await super().release(connection)

    async def stop_asking(self) -> None:
        """End the question that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        # Where no Sentinel answers, or none knows a primary, the connection that there is stays as good as it is.
        with suppress(RedisError, OSError, TimeoutError):
            await cast("Any", self).get_master_address()


class Route:
    """The server that has the keys: one of *seeds*, which are those of the URL, or the node that one of them named.

    All keys of a journal have one hash tag, so one node of a cluster has all of them, and a client needs no other.
    """

    def __init__(self, seeds: Sequence[tuple[str, int]]) -> None:
        self._seeds = seeds
        self._at = 0
        self.current: tuple[str, int] = seeds[0]

    @property
    def others(self) -> int:
        """How many other seeds there are; none for a node that a seed has named, as only that one has the keys."""
        return len(self._seeds) - 1 if self.current in self._seeds else 0

    def moved(self, host: str, port: int) -> None:
        """Go to the node at *host* from now on; without one it is another port of the same host."""
        self.current = (host or self.current[0], port)

    def failed(self) -> None:
        """Go back to a seed, the next one if it was a seed that failed: it may know where the keys are now."""
        if self.current == self._seeds[self._at]:
            self._at = (self._at + 1) % len(self._seeds)
        self.current = self._seeds[self._at]


class RoutedConnection(Connection):
    """A connection to where *route* leads when it is made, or to another seed if nobody answers there."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        cast("Any", super()).__init__(**options)
        self._route = route

    async def _connect(self) -> None:
        for _ in range(self._route.others):
            try:
                return await self._connect_there()
            except (OSError, TimeoutError):
                self._route.failed()
        return await self._connect_there()

    async def _connect_there(self) -> None:
        self.host, self.port = self._route.current
        await cast("Any", super())._connect()


class RoutedTlsConnection(RoutedConnection, SSLConnection):
    """A RoutedConnection over TLS."""


class RoutedRedis(Redis):
    """A client that goes where a node of a cluster sends it. Nothing was executed there, so it may send again, once."""

    route: Route

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """The answer to a command. Raises as the client does."""
        client: Any = super()
        try:
            return await client.execute_command(*arguments, **options)
        except MovedError as error:
            node: Any = error
            self.route.moved(node.host, node.port)
            await self.connection_pool.disconnect(inuse_connections=False)
            return await client.execute_command(*arguments, **options)
