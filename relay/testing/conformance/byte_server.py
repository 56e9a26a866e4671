"""A server on loopback that sends the bytes of a script, and may also hang, drip or break off."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, Final, NamedTuple, Self

__all__ = [
    "TOO_LONG",
    "ByteServer",
    "Request",
    "ScriptedResponse",
    "drip",
    "encoded",
    "endless",
    "hang",
    "packed",
    "padded",
    "reset",
    "truncated",
    "whole",
    "zipped",
]

TOO_LONG: Final = 24 * 1024 * 1024
"""A length of bodies, in bytes, that nobody should read."""


class Request(NamedTuple):
    """A request as it came: *target* is path and query, *head* the request line and headers."""

    method: str
    target: str
    head: str


ScriptedResponse = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""An answer: its bytes, or a function that writes them itself."""


class ByteServer:
    """Answers each request as *script* says, and closes the connection. Enter it to start it, leave it to stop it.

    The received requests are in `requests`; *arrived* is set with each request, and *dropped* once a client has closed
    a connection before the end of the answer.
    """

    def __init__(self, script: Callable[[Request], ScriptedResponse]) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.arrived: asyncio.Event = asyncio.Event()
        self.dropped: asyncio.Event = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self.url: str = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await _settled()
        for writer in self._connections:
            # Bytes that were written and never read would keep a connection that is merely closed. CPython 3.11 has no
            # loop left to abort one that was closed with such bytes, and has sent them since (asyncio/selector_events).
            with suppress(AttributeError):
                writer.transport.abort()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()
        await _settled()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        task = asyncio.current_task()
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await reader.readexactly(_length(head))
            method, target, _ = head.split(" ", 2)
            self.requests.append(Request(method, target, head))
            self.arrived.set()
            response = self.script(self.requests[-1])
            if isinstance(response, bytes):
                writer.write(response)
                await writer.drain()
            else:
                await response(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.dropped.set()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()


def whole(body: object, status: int = 200, **headers: str) -> bytes:
    """*body* as JSON, or as it is where it is bytes, in a whole answer. Header names are given with underscores.

    NaN and Infinity are written as they are, and the text "1e999" as the number: upstreams send those too.
    """
    content = body if isinstance(body, bytes) else encoded(body)
    fields = {"content_type": "application/json", "content_length": str(len(content)), "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + content


def encoded(body: object) -> bytes:
    """*body* as JSON, with the text "1e999" in it as a number."""
    return json.dumps(body).replace('"1e999"', "1e999").encode()


def truncated(body: object) -> bytes:
    """An answer whose connection is closed in the middle of its body."""
    answer = whole(body)
    return answer[: len(answer) - max(1, len(encoded(body)) // 2)]


def padded(body: object, length: int) -> bytes:
    """*body* as JSON, followed by so many blanks that it is *length* bytes long."""
    return encoded(body).ljust(length)


def packed(content: bytes) -> bytes:
    """An answer that inflates to *content*."""
    packer = zlib.compressobj(1, wbits=31)
    return whole(packer.compress(content) + packer.flush(), content_encoding="gzip")


def zipped(body: object) -> bytes:
    """*body*, followed by so many blanks that it inflates to more than TOO_LONG, compressed."""
    return packed(encoded(body) + _blanks())


def endless(body: object) -> bytes:
    """*body*, followed by TOO_LONG blanks."""
    return whole(encoded(body) + _blanks())


@cache
def _blanks() -> bytes:
    return b" " * TOO_LONG


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes away."""
    await reader.read()
    raise ConnectionResetError


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a blank every ten seconds, for ever: no wait is long, and the whole has no end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(10)
    raise ConnectionResetError


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection off without a word."""
    writer.transport.abort()


async def _settled() -> None:
    """Let what has just been accepted, or closed, come to where it belongs."""
    for _ in range(10):
        await asyncio.sleep(0)


def _length(head: str) -> int:
    found = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    return int(found[0]) if found else 0
