"""Serves an application on a socket, as in production."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from aiohttp.web import Application, AppRunner

from web.memory import MemoryBudget
from web.middleware.idle_timeout import reap_idle_connections
from web.middleware.request_checks import limit_path_length
from web.request_failures import FAILURES, RequestFailures
from web.request_heads import HEADS_LIMIT, Connection

__all__ = ["SHUTDOWN", "served"]

SHUTDOWN: Final = 0.5
"""Seconds that requests in progress have to end; aiohttp waits up to twice that. Streams are closed before."""

BACKLOG: Final = 128

READ_AT_ONCE: Final = 32 * 1024
"""Bytes that the kernel buffers for a connection, which it doubles. An event loop reads up to 256 KiB at once and
parses all of it in one step: 43,000 chunks of a byte, or 6,000 requests."""

_OPTIONS: Final[dict[str, Any]] = {"access_log": None}


@asynccontextmanager
async def served(app: Application, listener: socket.socket) -> AsyncGenerator[None]:
    """Serve *app* on *listener*, and close both in order on exit."""
    failures, heads = app.get(FAILURES) or RequestFailures(), MemoryBudget(HEADS_LIMIT)
    runner = AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN)
    async with reap_idle_connections(runner):
        try:
            await runner.setup()
            loop, server = asyncio.get_running_loop(), runner.server
            if server is None:
                raise RuntimeError("a runner that is set up has a server")
            server.request_handler = limit_path_length(server.request_handler)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_AT_ONCE)
            connection = partial(Connection, server, heads, failures, loop=loop, **_OPTIONS)
            accepting = await loop.create_server(connection, sock=listener, backlog=BACKLOG)
            try:
                yield
            finally:
                accepting.close()
        finally:
            await runner.cleanup()
