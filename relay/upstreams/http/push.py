"""Connections that stay open, on which an upstream reports by itself that a task has news."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from relay.clock import Clock
from relay.errors import UpstreamError
from relay.upstreams.http.client import HttpClient
from relay.wire.event_stream import EventStreamParser

__all__ = ["LONGEST_WAIT", "NotServedError", "keep_listening", "server_sent", "websocket"]

MESSAGE_LIMIT: Final = 4 * 1024 * 1024
"""The most bytes of one message. Some are pictures, which nobody looks at."""

_NEVER: Final = (200, 404, 405, 501)

SILENCE: Final = 45.0
LASTS: Final = 600.0
"""Seconds without a byte, and in all, after which a stream is given up. fal sends a comment every 15 s."""

HEARTBEAT: Final = 30.0
CLOSING: Final = 1.0

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds before a lost connection is tried again: at first, and at most."""


class NotServedError(Exception):
    """The upstream has no such stream."""


async def keep_listening(listen: Callable[[], Awaitable[bool]], clock: Clock) -> None:
    """Call *listen* again whenever it is over, until cancelled.

    It returns whether anything was received. While nothing is, the wait doubles from FIRST_WAIT to LONGEST_WAIT. A lost
    connection publishes nothing: polling goes on, and alone decides about jobs.
    """
    wait = FIRST_WAIT
    while True:
        try:
            received = await listen()
        except (aiohttp.ClientError, OSError, UpstreamError):
            received = False
        wait = FIRST_WAIT if received else min(2 * wait, LONGEST_WAIT)
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


async def server_sent(http: HttpClient, path: str) -> AsyncGenerator[bytes]:
    """The data of each event of the stream at *path*, until it ends, is silent for SILENCE or has lasted LASTS.

    Raises NotServedError where there is no such stream; aiohttp.ClientError, OSError or UpstreamError where it breaks
    off; and ValueError for an event that is too long (`relay.wire.event_stream`).
    """
    session, headers = http.connection()
    async with session.get(
        f"{http.base_url}/{path}",
        headers={**headers, "Accept": "text/event-stream"},
        timeout=aiohttp.ClientTimeout(total=LASTS, sock_read=SILENCE),
        allow_redirects=False,
    ) as response:
        if response.status != 200 or response.content_type != "text/event-stream":
            if response.status in _NEVER:
                raise NotServedError
            return
        parser = EventStreamParser()
        async for data in response.content.iter_any():
            for block in parser.feed(data):
                if block.data:
                    yield block.data


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientConnectionError("a redirect, which is not followed")
    return response
