"""What a stream is written to, and who serves it: aiohttp's handler here, or nobody most of the time (`takeover`)."""

import asyncio
from typing import Final, Protocol

from aiohttp import HttpVersion11
from aiohttp.web import Request, StreamResponse

__all__ = ["CHUNK", "HandlerLink", "Link", "Served", "Writer"]

CHUNK: Final = b"%x\r\n%b\r\n"
"""[spec] RFC 9112, 7.1: a chunk is its size in hexadecimal, and its data, each ended by CRLF."""


class Writer(Protocol):
    """Takes what is framed already, and waits for nothing."""

    def write(self, data: bytes, /) -> None: ...


class Link(Protocol):
    """A client's connection while it is served a stream."""

    @property
    def transport(self) -> asyncio.Transport:
        """Raises ConnectionError where there is none any more."""
        ...

    @property
    def writer(self) -> Writer:
        """Where framed data goes. Who is not given all of it to the kernel is marked as slow."""
        ...

    @property
    def chunked(self) -> bool:
        """Whether what the writer takes is to be framed as chunks."""
        ...

    async def send(self, data: bytes) -> None:
        """Frame and write *data*; return when the kernel has taken all. Raises ConnectionError where it does not."""

    async def drained(self) -> None:
        """Return when the kernel has taken all that was written. Raises ConnectionError where it takes too long."""

    def finish(self, data: bytes = b"") -> bool:
        """End an up to date stream with *data*, at once. False where it is to be served for that (see `wake`)."""
        ...

    def wake(self) -> None:
        """Have the stream served: there is something to do for this client alone."""

    def cut(self) -> None:
        """Break the connection."""


class Served(Protocol):
    """A stream, as its link knows it."""

    slow: bool
    """Set where the kernel did not take all that was written."""

    async def serve(self) -> bool:
        """Do what there is to do for this client alone. Returns whether the stream is over then."""
        ...

    def end(self) -> None:
        """The client has left, or the stream is over: let go of everything. Twice does nothing."""


class HandlerLink:
    """The plain way: aiohttp's response, and its handler, which waits until it is woken."""

    def __init__(self, request: Request, response: StreamResponse, stream: Served, send_timeout: float) -> None:
        self.chunked = request.version >= HttpVersion11
        self.news = asyncio.Event()
        self._request = request
        self._response = response
        self._stream = stream
        self._send_timeout = send_timeout

    @property
    def transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None:
            raise ConnectionError("the client has left")
        return transport

    @property
    def writer(self) -> Writer:
        return self

    def write(self, data: bytes, /) -> None:
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
            if not transport.get_write_buffer_size():
                return
        self._stream.slow = True

    async def send(self, data: bytes) -> None:
        await self._response.write(data)
        await self.drained()

    async def drained(self) -> None:
        transport = self.transport
        if transport.is_closing():
            raise ConnectionError("the client has left")
        if not transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._request.writer.drain()
        except TimeoutError:
            self.cut()
            raise ConnectionError("the client takes nothing") from None

    def finish(self, data: bytes = b"") -> bool:  # noqa: ARG002
        return False

    def wake(self) -> None:
        self.news.set()

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
