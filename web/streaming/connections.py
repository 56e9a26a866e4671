"""The connection of a stream: served by aiohttp's handler here, or by no task most of the time (`takeover`)."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

from aiohttp import HttpVersion11
from aiohttp.web import Request, StreamResponse

from relay.notices import interrupts
from web.request_failures import RequestFailures
from web.streaming.patience import ClientWaits
from web.streaming.sockets import read_so_far

__all__ = ["CHUNK", "IGNORED_BYTES", "HandlerConnection", "ServedStream", "StreamConnection", "framed", "served_alone"]

CHUNK: Final = b"%x\r\n%b\r\n"
"""[spec] RFC 9112, 7.1: a chunk is its size in hexadecimal, and its data, each ended by CRLF."""

FIRST_BYTES: Final = 16 * 1024
"""Bytes that are passed to aiohttp, with the headers. It waits for the client, without a limit, after 64 KB of them."""


IGNORED_BYTES: Final = 64 * 1024
"""Bytes that a client may send after its request. They are not answered: the response has `Connection: close`."""

_LAST_CHUNK: Final = b"0\r\n\r\n"


def framed(data: bytes, *, chunked: bool, last: bool = False) -> bytes:
    """*data* for a connection that is *chunked*, or as it is; the *last* of it is followed by the end of the body."""
    if not chunked:
        return data
    chunk = CHUNK % (len(data), data) if data else b""
    return chunk + _LAST_CHUNK if last else chunk


@contextmanager
def served_alone(failures: RequestFailures) -> Generator[None]:
    """Serve one stream within: an error ends it and no other, and one that is no client's is counted in *failures*."""
    try:
        yield
    except ConnectionError:
        pass  # the client has left, or reads nothing; no job depends on a connection
    except BaseException as error:
        if interrupts(error, asyncio.current_task()):
            raise
        failures.failed("a stream could not be served", error)


class StreamConnection(Protocol):
    """A client's connection while a stream is served on it."""

    @property
    def chunked(self) -> bool:
        """Whether data to be written has to be framed as chunks."""
        ...

    def write(self, data: bytes, /) -> None:
        """Write framed data, without waiting; if the kernel does not accept all of it, the stream is marked as slow."""

    async def send(self, data: bytes) -> None:
        """Frame and write *data*, and return once it is drained. Raises ConnectionError as `drained` does."""

    async def drained(self) -> None:
        """Return once the kernel has accepted all data. Raises ConnectionError after the send timeout."""

    def finish(self, data: bytes = b"") -> bool:
        """End an up to date stream with *data* at once. Returns False if it has to be served for that (see `wake`)."""
        ...

    def wake(self) -> None:
        """Have the stream served: there is work for this client alone."""

    def cut(self) -> None:
        """Abort the connection."""


class ServedStream(Protocol):
    """A stream, as its connection sees it."""

    slow: bool
    """Set if the kernel did not accept all data."""

    async def serve(self) -> bool:
        """Do the work for this client alone. Returns whether the stream is over then."""
        ...

    def end(self) -> None:
        """Release all resources: the client has left, or the stream is over. Idempotent."""


class HandlerConnection:
    """aiohttp's response, with its handler waiting until it is woken."""

    def __init__(self, request: Request, response: StreamResponse, stream: ServedStream, waits: ClientWaits) -> None:
        self.chunked: bool = request.version >= HttpVersion11
        self.news: asyncio.Event = asyncio.Event()
        self._begun = False
        self._request = request
        self._response = response
        self._stream = stream
        self._waits = waits

    @property
    def transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None:
            raise ConnectionError("the client has left")
        return transport

    def write(self, data: bytes, /) -> None:
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
            if not transport.get_write_buffer_size():
                return
        self._stream.slow = True

    async def send(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            first, data = data[:FIRST_BYTES], data[FIRST_BYTES:]
            await self._response.write(first)
        if data:
            self._open_transport().write(CHUNK % (len(data), data) if self.chunked else data)
        await self.drained()

    async def drained(self) -> None:
        transport = self._open_transport()
        if not transport.get_write_buffer_size():
            return
        # One call for all waits: aiohttp never completes another one behind a call that was cancelled.
        drained = asyncio.ensure_future(self._request.writer.drain())
        try:
            await self._waits.while_reading(partial(asyncio.shield, drained), partial(read_so_far, transport))
        except ConnectionError:
            self.cut()
            raise
        finally:
            drained.cancel()

    def _open_transport(self) -> asyncio.Transport:
        transport = self.transport
        if transport.is_closing():
            raise ConnectionError("the client has left")
        return transport

    def finish(self, data: bytes = b"") -> bool:  # noqa: ARG002
        return False

    def wake(self) -> None:
        self.news.set()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
