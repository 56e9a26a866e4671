"""The client of an engine: no command is repeated by itself, no answer is awaited for ever, and every failure is named.

[measured] With its defaults redis-py 8 repeats a command ten times: one INCR on a server that stood still for 8 s was
executed twice. A caller here repeats, or does not, and knows which batch it was.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import TLSVersion
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.errors import ConfigError, JournalError
from relay.journal.redis._place import EnginePlace
from relay.journal.redis._routes import PrimaryPool, Route, RoutedConnection, RoutedRedis, RoutedTlsConnection
from relay.journal.redis._trouble import explain, is_demotion, is_silence

__all__ = ["CONNECT_TIMEOUT", "EngineClient"]

CONNECT_TIMEOUT: Final = 2.0
"""Seconds in which a connection is made, name look-up and TLS included; also those in which a Sentinel answers."""

CLOSE_WITHIN: Final = 1.0
"""Seconds that connections have to close. One to a machine that stands still is left after that."""


class EngineClient:
    """Connections to one engine: *connections* of them at most, each with one command at a time.

    A command that has no answer in *read_timeout* seconds fails, and its connection with it; a read that blocks in the
    engine has to block for less than that. Use one client for appends and another one for the tail, since a blocked
    read holds its connection. Connects at the first command; raises ConfigError for files that cannot be read.
    """

    def __init__(self, place: EnginePlace, *, read_timeout: float, connections: int = 1) -> None:
        self.place: EnginePlace = place
        self._sentinel: Sentinel | None = None
        self._route: Route | None = None
        options = _options(place, read_timeout)
        address = place.address
        options |= {"username": address.user or None, "password": address.password or None, "db": place.database}
        kind: type[ConnectionPool] = BlockingConnectionPool
        if place.service:
            sentinels = _options(place, CONNECT_TIMEOUT)
            sentinels |= {"username": address.options.get("sentinel_user")}
            sentinels |= {"password": address.options.get("sentinel_password"), "ssl": place.tls}
            self._sentinel = cast("Any", Sentinel)(address.hosts, sentinel_kwargs=sentinels)
            options |= {"service_name": place.service, "sentinel_manager": self._sentinel}
            options["connection_class"] = SentinelManagedSSLConnection if place.tls else SentinelManagedConnection
            kind = PrimaryPool
        elif address.hosts:
            self._route = Route(address.hosts)
            options["route"] = self._route
            options["connection_class"] = RoutedTlsConnection if place.tls else RoutedConnection
        else:
            options |= {"path": address.path, "connection_class": UnixDomainSocketConnection}
            del options["socket_keepalive"]
        self._pool: ConnectionPool = kind(max_connections=connections, timeout=read_timeout, **options)
        self._redis: Redis
        if self._route is None:
            self._redis = Redis(connection_pool=self._pool)
        else:
            self._redis = routed = RoutedRedis(connection_pool=self._pool)
            routed.route = self._route

    @asynccontextmanager
    async def talk(self, *, opening: bool = False) -> AsyncGenerator[Redis]:
        """The client, for commands whose failures are raised as JournalError, a sentence that says what to do.

        With *opening*, a failure that no retry mends, such as a wrong password, is a ConfigError. A connection to an
        engine that turned out to be a replica is closed, so that the next command goes to the primary.
        """
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            yield self._redis
            # [measured] The client sends within asyncio.wait_for, which before Python 3.12 drops a cancellation that
            # comes as the bytes are out: the task would never end.
            if task is not None and task.cancelling() > cancelled:
                raise asyncio.CancelledError
        except (RedisError, OSError) as error:
            if is_demotion(error):
                await self.reconnect()
            if self._route is not None and is_silence(error):
                self._route.failed()
            explained = explain(error, self.place)
            if isinstance(explained, ConfigError) and not opening:
                explained = JournalError(str(explained))
            # The client's own error may hold the command, with a record in it, or the URL.
            raise explained from None

    async def reconnect(self) -> None:
        """Close idle connections: the next command connects anew, and asks the Sentinels again where there are any."""
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Close all connections, also those in use. Idempotent."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                if isinstance(self._pool, PrimaryPool):
                    await self._pool.stop_asking()
                await self._pool.disconnect()
                if self._sentinel is not None:
                    await self._sentinel.aclose()


def _options(place: EnginePlace, read_timeout: float) -> dict[str, Any]:
    """What a connection to an engine or a Sentinel is made with. HELLO 3, the default, is unknown to Redis 5."""
    options: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": read_timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 0,
        "driver_info": None,  # no CLIENT SETINFO, which needs a permission more
    }
    if place.tls:
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_min_version": TLSVersion.TLSv1_2}
        options |= {key: value for key, value in place.address.options.items() if key.startswith("ssl_")}
        _check_files(place)
    return options


def _check_files(place: EnginePlace) -> None:
    for key in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if (name := place.address.options.get(key)) is None:
            continue
        try:
            with Path(name).open("rb"):
                pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name cannot be one"
            raise ConfigError(f"url has {key} with a file that cannot be read: {reason}") from None
