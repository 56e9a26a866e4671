"""Requests as bytes, for what no client library sends, to the relay as `relay serve` runs it."""

import asyncio
from asyncio import StreamReader
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from relay import Relay
from relay.cli.serving import serving
from web import create_app
from web.request_failures import FAILURES, RequestFailures
from web.streaming.keys import STREAMS
from web.streaming.registry import StreamRegistry

__all__ = ["Answer", "Door", "door", "request"]

PATIENCE = 60.0
"""Seconds: a safety net only."""


class Answer(Struct, frozen=True):
    """A response, all of which has been read."""

    status: int
    headers: dict[str, str]
    body: bytes


class Door(Struct, frozen=True):
    """A relay on a port of loopback."""

    port: int
    failures: RequestFailures
    streams: StreamRegistry

    async def ask(self, *pieces: bytes) -> Answer | None:
        """The first final answer to what these *pieces* are, sent one after the other; None where none came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE):
                with suppress(ConnectionError):
                    for piece in pieces:
                        if writer.transport.is_closing():
                            break
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)
                return await read_answer(reader)
        finally:
            writer.close()


@asynccontextmanager
async def door(relay: Relay, **options: Any) -> AsyncGenerator[Door]:
    """*relay* behind the sockets of `relay serve`."""
    app = create_app(relay, **options)
    async with serving(app, "127.0.0.1", 0) as address:
        yield Door(urlsplit(address).port or 0, app[FAILURES], app[STREAMS])


def request(line: str, *fields: str, body: bytes = b"", host: str | None = "localhost") -> bytes:
    """A request as it is written, of which nothing is checked."""
    named = [f"Host: {host}"] if host is not None else []
    framed = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([line, *named, *framed, *fields, "", ""]).encode("latin-1") + body


async def read_answer(reader: StreamReader) -> Answer | None:
    """The next final answer on a connection; None where it ends without one."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *fields = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(line.split()[1])
        if status >= 200:
            return Answer(status, headers, await _body(reader, status, headers))


async def _body(reader: StreamReader, status: int, headers: dict[str, str]) -> bytes:
    if status in (204, 304):
        return b""
    if (length := headers.get("content-length")) is not None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            return await reader.readexactly(int(length))
    return b""
