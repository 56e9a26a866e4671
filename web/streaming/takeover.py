"""Takes a stream's connection over from aiohttp.

Beside `web/request_heads.py`, this is the one place that knows how aiohttp keeps its connections.

aiohttp keeps 15 KB for a request in progress (two tasks, request, response, parser, buffers), and a stream needs none
of it once its headers are sent. The transport therefore gets a protocol of the relay's own, and aiohttp is notified
that the connection is over. This relies on one internal of aiohttp: a `RequestHandler` without a `transport` has no
connection to write to or to close. Everything else is public API; if a connection does not look as expected, the stream
stays with aiohttp. A second internal, on which nothing depends, sends the headers together with the first data.
"""

import asyncio
import os
from functools import partial
from typing import Final

from aiohttp import HttpVersion11
from aiohttp.web import Request, RequestHandler, StreamResponse

from web.request_failures import FAILURES, RequestFailures
from web.streaming.connections import IGNORED_BYTES, ServedStream, framed, served_alone
from web.streaming.patience import ClientWaits
from web.streaming.reactor import BareStream, Reactor
from web.streaming.sockets import read_so_far

__all__ = ["StreamHead", "TakenOverConnection", "can_be_taken_over", "detach", "take_over"]

PLAIN: Final = frozenset(
    {
        ("asyncio.selector_events", "_SelectorSocketTransport"),
        ("uvloop.loop", "TCPTransport"),
        ("uvloop.loop", "UnixTransport"),
    }
)
"""The transports that write to their socket as it is: not those of TLS, nor of another library."""


class StreamHead(StreamResponse):
    """The response of a stream. Its headers wait for the first data, so that each client costs one write, not two."""

    _send_headers_immediately = False


def can_be_taken_over(request: Request) -> bool:
    """Whether the connection of *request* looks as expected, and the request has been read to its end."""
    handler, transport = request.protocol, request.transport
    if transport is None or request.can_read_body or transport.get_protocol() is not handler:
        return False
    return _holds(handler, transport)


def take_over(request: Request, stream: ServedStream, waits: ClientWaits) -> "TakenOverConnection | None":
    """Take over the connection of *request*, whose response has been started, and serve *stream* on it from now on.

    The handler returns that response, which has `Connection: close`; aiohttp treats it like the response to a client
    that has left, and does nothing. Returns None if the connection is closing, or does not look as expected.
    """
    transport = request.transport
    if transport is None or transport.is_closing() or not can_be_taken_over(request):
        return None
    chunked, failures = request.version >= HttpVersion11, request.app[FAILURES]
    connection = TakenOverConnection(transport, stream, failures, chunked=chunked, waits=waits)
    transport.set_protocol(connection)
    _end_handler(request)
    return connection


def detach(request: Request, stream: BareStream, reactor: Reactor) -> bool:
    """Serve *stream* on the bare descriptor of the connection of *request* from now on, as `take_over` otherwise.

    Returns False if its transport does more than to write to a socket, as that of TLS, or has bytes left to write, or
    if the reactor cannot adopt the descriptor.
    """
    transport = request.transport
    if transport is None or transport.is_closing() or not can_be_taken_over(request) or not _is_plain(transport):
        return False
    try:
        fd = os.dup(transport.get_extra_info("socket").fileno())
    except OSError:  # out of descriptors
        return False
    stream.chunked = request.version >= HttpVersion11
    if not reactor.adopt(fd, stream):
        os.close(fd)
        return False
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    _end_handler(request)
    return True


def _is_plain(transport: asyncio.Transport) -> bool:
    kind = type(transport)
    return (kind.__module__, kind.__qualname__) in PLAIN and not transport.get_write_buffer_size()


def _end_handler(request: Request) -> None:
    """Notify aiohttp that the connection is over."""
    handler = request.protocol
    handler.transport = None
    handler.close()
    # Not before the task has ended: with `handler_cancellation` it would be cancelled, with all middlewares.
    request.task.add_done_callback(lambda _: handler.connection_lost(None))


def _holds(handler: object, transport: asyncio.Transport) -> bool:
    return isinstance(handler, RequestHandler) and handler.transport is transport


class TakenOverConnection(asyncio.Protocol):
    """The protocol of a stream's connection. It has a task only while there is work for its client alone."""

    __slots__ = ("_awaited", "_failures", "_ignored", "_stream", "_task", "_waits", "chunked", "transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: ServedStream,
        failures: RequestFailures,
        *,
        chunked: bool,
        waits: ClientWaits,
    ) -> None:
        self.chunked: bool = chunked
        self.transport: asyncio.Transport = transport
        self._stream = stream
        self._failures = failures
        self._waits = waits
        self._ignored = 0
        self._task: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[None] | None = None

    def write(self, data: bytes, /) -> None:
        self.transport.write(data)

    async def send(self, data: bytes) -> None:
        self.transport.write(framed(data, chunked=self.chunked))
        await self.drained()

    async def drained(self) -> None:
        if self.transport.is_closing():
            raise ConnectionError("the client has left")
        if self.transport.get_write_buffer_size():
            await self._waits.while_reading(self._accepted, partial(read_so_far, self.transport))

    async def _accepted(self) -> None:
        """Return once the transport has nothing left to write."""
        if not self.transport.get_write_buffer_size():
            return
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            await self._awaited
        finally:
            self._awaited = None

    def wake(self) -> None:
        if self._task is None and not self.transport.is_closing():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def cut(self) -> None:
        self.transport.abort()

    def finish(self, data: bytes = b"") -> bool:
        if self._task is not None or self._stream.slow or self.transport.is_closing():
            return False
        self.transport.write(framed(data, chunked=self.chunked, last=True))
        self.transport.close()
        self._stream.end()
        return True

    def pause_writing(self) -> None:
        self._stream.slow = True

    def resume_writing(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._ignored += len(data)
        if self._ignored > IGNORED_BYTES:
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        stream = self._stream
        del self._stream  # or the two reference each other until the next garbage collection, which may be far away
        if self._task is None:
            stream.end()
        else:
            self._task.add_done_callback(lambda _: stream.end())
            self._task.cancel()

    async def _serve(self) -> None:
        stream, over, whole = self._stream, True, False
        try:
            with served_alone(self._failures):
                over = await stream.serve()
                if over:
                    await self._finish()
                    whole = True
        finally:
            self._task = None
            if over:
                if not whole:  # or what a transport of TLS has left to write, up to 64 KB, would be lost
                    self.transport.abort()
                stream.end()

    async def _finish(self) -> None:
        self.transport.write(framed(b"", chunked=self.chunked, last=True))
        await self.drained()
        self.transport.close()
