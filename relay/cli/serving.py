"""Serving an application while a command runs."""

import asyncio
import errno
import socket
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp.web import Application

from relay.cli import say
from relay.cli.gc_tuning import tuned_gc
from relay.cli.listening import Listeners, listening
from web.server import served
from web.tls import Certificate

__all__ = ["serving", "serving_on"]

EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

QUIET_FOR: Final = 60.0
"""Seconds without trouble after which the same trouble is worth another line."""


@asynccontextmanager
async def serving(app: Application, host: str, port: int) -> AsyncGenerator[str]:
    """Serve *app* on *host* and *port*, and shut it down in order. The address it has is what this yields.

    Raises UsageError where that port cannot be had, before anything of *app* has started.
    """
    with listening(host, port) as listeners:
        async with serving_on(app, listeners) as address:
            yield address


@asynccontextmanager
async def serving_on(
    app: Application, listeners: Listeners, certificate: Certificate | None = None, *, fast_accept: bool = True
) -> AsyncGenerator[str]:
    """Serve *app* on *listeners*, over TLS with a *certificate*; this yields the address, or `unix:PATH`.

    *fast_accept*: see `web.server.served`.
    """
    _report_exhaustion_once(listeners.sockets)
    async with served(app, *listeners.sockets, certificate=certificate, fast_accept=fast_accept):
        with tuned_gc():
            yield listeners.address("http" if certificate is None else "https")


def _report_exhaustion_once(listeners: Sequence[socket.socket]) -> None:
    """Where no connection can be accepted, asyncio waits a second and tries again; each time it logs a traceback.

    CPython 3.11 does so once for each connection that may wait, a hundred times a second, and tries again also when
    the *listeners* have been closed meanwhile, which is no news to anybody. The last of these tries come up to a second
    after the end of serving, so the handler stays for as long as the loop does.
    """
    loop = asyncio.get_running_loop()
    last = -QUIET_FOR

    def handle(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in EXHAUSTED and "socket" in context):
            if any(one.fileno() >= 0 for one in listeners) or "_start_serving" not in context["message"]:
                loop.default_exception_handler(context)
            return
        now = loop.time()
        if now - last >= QUIET_FOR:
            say(
                f"no connection can be accepted: {error.strerror}; connected clients are served, and new ones wait."
                " Raise the limit (ulimit -n), or lower [server] max_streams"
            )
        last = now

    loop.set_exception_handler(handle)
