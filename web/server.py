"""Serves an application on a socket, as in production."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from aiohttp.web import Application, AppRunner

from relay.clock import SystemClock
from relay.notices import notice
from relay.supervision.supervisor import Supervisor, stop
from web.app_keys import RELAY
from web.bulk_accept import BulkAccept, can_peek
from web.memory import MemoryBudget
from web.middleware.idle_timeout import reap_idle_connections
from web.middleware.request_checks import limit_path_length
from web.peeked_request import PeekedRequests
from web.request_failures import FAILURES, RequestFailures
from web.request_heads import HEADS_LIMIT, Connection
from web.stream_lane import STREAM_LANE
from web.tls import Certificate

__all__ = ["SHUTDOWN", "served"]

SHUTDOWN: Final = 0.5
"""Seconds that requests in progress have to end; aiohttp waits up to twice that. Streams are closed before."""

BACKLOG: Final = 128
"""How many connections an event loop accepts in one turn."""

WAITING: Final = 2_048
"""How many connections wait in the kernel to be accepted: all clients come back at once after a restart, and a kernel
without room lets each wait for a second, or resets it."""

READ_AT_ONCE: Final = 32 * 1024
"""Bytes that the kernel buffers for a connection, which it doubles. An event loop reads up to 256 KiB at once and
parses all of it in one step: 43,000 chunks of a byte, or 6,000 requests."""

HANDSHAKE_WITHIN: Final = 10.0
"""Seconds that a client has for the handshake of TLS; asyncio waits for a minute."""

FAREWELL_WITHIN: Final = 10.0
"""Seconds that a client has to read the last 64 KB of its connection, and to close TLS in turn; asyncio waits for half
a minute."""

STOPS_WITHIN: Final = 1.0

_OPTIONS: Final[dict[str, Any]] = {"access_log": None}


@asynccontextmanager
async def served(
    app: Application, *listeners: socket.socket, certificate: Certificate | None = None, fast_accept: bool = True
) -> AsyncGenerator[None]:
    """Serve *app* on *listeners*, over TLS if there is a *certificate*, and close all in order on exit.

    With *fast_accept*, plain requests for streams of the relay's own application are answered without aiohttp's server.
    It serves all the others, and these as well if there is TLS, or if *app* has more middlewares than it was made with.
    """
    lane = app.get(STREAM_LANE) if fast_accept and certificate is None else None
    opens = None if lane is None or not lane.can_serve() else partial(lane.open, PeekedRequests(app))
    failures, heads = app.get(FAILURES) or RequestFailures(), MemoryBudget(HEADS_LIMIT)
    runner = AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN)
    async with reap_idle_connections(runner):
        try:
            await runner.setup()
            loop, handlers = asyncio.get_running_loop(), runner.server
            if handlers is None:
                raise RuntimeError("a runner that is set up has a server")
            handlers.request_handler = limit_path_length(handlers.request_handler)
            connection = partial(Connection, handlers, heads, failures, loop=loop, **_OPTIONS)
            tls = _tls_options(certificate)
            async with _watched(certificate, app), AsyncExitStack() as accepting:
                for listener in listeners:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_AT_ONCE)
                    if opens is not None and can_peek(listener):
                        bulk = BulkAccept(listener, opens, connection, failures)
                        accepting.push_async_callback(bulk.close)
                        bulk.start()
                    else:
                        server = await loop.create_server(connection, sock=listener, backlog=BACKLOG, **tls)
                        accepting.callback(server.close)
                    listener.listen(WAITING)
                yield
        finally:
            await runner.cleanup()


def _tls_options(certificate: Certificate | None) -> dict[str, Any]:
    if certificate is None:
        return {}
    return {
        "ssl": certificate.context,
        "ssl_handshake_timeout": HANDSHAKE_WITHIN,
        "ssl_shutdown_timeout": FAREWELL_WITHIN,
    }


@asynccontextmanager
async def _watched(certificate: Certificate | None, app: Application) -> AsyncGenerator[None]:
    """Have *certificate* read again when its files change, by the clock of the relay in *app*."""
    if certificate is None:
        yield
        return
    relay = app.get(RELAY)
    clock = SystemClock() if relay is None else relay.clock
    supervisor = Supervisor(clock, notice) if relay is None else relay.supervisor
    watch = supervisor.start("the watch over the certificate", partial(certificate.watch, clock))
    try:
        yield
    finally:
        await stop([watch], STOPS_WITHIN)
