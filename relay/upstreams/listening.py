"""Connections that stay open, on which an upstream tells by itself that a task has news."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from relay.clock import Clock
from relay.errors import UpstreamError
from relay.upstreams.http import HttpClient

__all__ = ["LONGEST_WAIT", "keep_listening", "websocket"]

MESSAGE_LIMIT: Final = 4 * 1024 * 1024
"""The most bytes of one message. Some are pictures, which nobody looks at."""

HEARTBEAT: Final = 30.0
CLOSING: Final = 1.0

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds before a lost connection is tried again: at first, and at most."""


async def keep_listening(listen: Callable[[], Awaitable[bool]], clock: Clock) -> None:
    """Call *listen* again whenever it is over, until cancelled.

    It returns whether anything was heard. While nothing is, the wait doubles from FIRST_WAIT to LONGEST_WAIT. Nothing
    is told of a connection that is lost: polling goes on, and is what jobs are told by.
    """
    wait = FIRST_WAIT
    while True:
        try:
            heard = await listen()
        except (aiohttp.ClientError, OSError, UpstreamError):
            heard = False
        wait = FIRST_WAIT if heard else min(2 * wait, LONGEST_WAIT)
        await clock.sleep(wait)


@asynccontextmanager
async def websocket(http: HttpClient, path: str) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    """A WebSocket at *path* below the base URL, with the account's token. Redirects are refused.

    Raises aiohttp.ClientError, OSError or UpstreamError where it cannot be had. A message over MESSAGE_LIMIT ends it.
    """
    session, headers = http.connection()
    async with (
        aiohttp.ClientSession(
            connector=session.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_refuse_redirects,),
        ) as own,
        own.ws_connect(
            f"{http.base_url}/{path}",
            headers=headers,
            heartbeat=HEARTBEAT,
            max_msg_size=MESSAGE_LIMIT,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING),  # pyright: ignore[reportCallIssue]
        ) as socket,
    ):
        yield socket


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientConnectionError("a redirect, which is not followed")
    return response
