"""The relay as production runs it: an AppRunner on a real port of loopback, not aiohttp's TestServer.

TestServer cancels the handler of a client that leaves; AppRunner by default does not, and hides nothing.
"""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout
from aiohttp.web import Application, AppRunner, TCPSite

from relay import Relay
from web import create_app
from web.server import served

__all__ = ["serve", "serve_app"]


SHORT_WAY = False
"""Whether plain requests for streams are answered without aiohttp's server."""


@asynccontextmanager
async def serve(relay: Relay, **options: Any) -> AsyncGenerator[ClientSession]:
    """A client of the relay's own application, whose base address is its server's.

    Unless the *options* say otherwise, no reader is slow: on a busy machine a healthy one may have no turn for seconds.
    """
    async with serve_app(create_app(relay, **{"send_timeout": 3_600, "slow_after": 3_600, **options})) as client:
        yield client


@asynccontextmanager
async def serve_app(app: Application, *, backlog: int = 128, **options: Any) -> AsyncGenerator[ClientSession]:
    """A client that outlives the server, and so reads the goodbye of every stream. It is the server of `relay serve` on
    the SHORT_WAY, which only that one has.

    *backlog*: how many connections may wait to be accepted. A kernel that is short of time resets those beyond.
    """
    # A stream lasts as long as its story, and on a busy machine that takes its time.
    timeout = ClientTimeout(total=None)
    if SHORT_WAY and not options:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with ClientSession(address, timeout=timeout) as client, served(app, listener):
                yield client
        return
    runner = AppRunner(app, access_log=None, **options)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0, backlog=backlog).start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=timeout) as client:
        try:
            yield client
        finally:
            await runner.cleanup()
