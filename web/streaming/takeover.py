"""A stream's connection taken out of aiohttp's hands: the one place that knows how aiohttp keeps its connections.

What aiohttp holds for a request under way (two tasks, the request, the response, the parser, their buffers) is 15 KB,
and a stream needs none of it once its headers are sent. So the transport is given a protocol of ours, and aiohttp is
told that the connection is over. Of its insides this needs one: that a `RequestHandler` without a `transport` has no
connection to write to or to close. All else is public; where anything looks otherwise, the stream stays with aiohttp.
A second one, of which nothing depends, lets a response's headers leave together with the first of its body.
"""

import asyncio
import logging
from typing import Final

from aiohttp import HttpVersion11
from aiohttp.web import Request, RequestHandler, StreamResponse

from web.links import CHUNK, Served, Writer

__all__ = ["StreamHead", "TakenOver", "can_be_taken_over", "take_over"]

IGNORED_BYTES: Final = 64 * 1024
"""How much a client may send after its request. Nothing of it is answered: the response said `Connection: close`."""

_LAST_CHUNK: Final = b"0\r\n\r\n"


class StreamHead(StreamResponse):
    """The response of a stream: its headers wait for the first write, which saves each client one of two."""

    _send_headers_immediately = False


def can_be_taken_over(request: Request) -> bool:
    """Whether the connection of *request* looks as it is expected to, and nothing more is to be read of the request."""
    handler, transport = request.protocol, request.transport
    if transport is None or request.body_exists or transport.get_protocol() is not handler:
        return False
    return _holds(handler, transport)


def take_over(request: Request, stream: Served, send_timeout: float) -> "TakenOver | None":
    """Take the connection of *request*, whose response has been begun, and serve *stream* on it from now on.

    The handler is to return that response, which says `Connection: close`: what aiohttp still does with it is what it
    does for a client that has left, and that is nothing. None where the connection cannot be taken, or is closing.
    """
    handler, transport = request.protocol, request.transport
    if transport is None or transport.is_closing() or not can_be_taken_over(request):
        return None
    taken = TakenOver(transport, stream, chunked=request.version >= HttpVersion11, send_timeout=send_timeout)
    transport.set_protocol(taken)
    handler.transport = None
    handler.close()
    # Not before its task has ended, for with `handler_cancellation` it would be cancelled, and middlewares with it.
    request.task.add_done_callback(lambda _: handler.connection_lost(None))
    return taken


def _holds(handler: object, transport: asyncio.Transport) -> bool:
    return isinstance(handler, RequestHandler) and handler.transport is transport


class TakenOver(asyncio.Protocol):
    """The protocol of a stream's connection. It has a task only while there is something to do for its client alone."""

    __slots__ = ("_awaited", "_ignored", "_send_timeout", "_stream", "_task", "chunked", "transport")

    def __init__(self, transport: asyncio.Transport, stream: Served, *, chunked: bool, send_timeout: float) -> None:
        self.chunked = chunked
        self.transport = transport
        self._stream = stream
        self._send_timeout = send_timeout
        self._ignored = 0
        self._task: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[None] | None = None

    @property
    def writer(self) -> Writer:
        return self.transport

    async def send(self, data: bytes) -> None:
        self.transport.write(self._framed(data))
        await self.drained()

    async def drained(self) -> None:
        if self.transport.is_closing():
            raise ConnectionError("the client has left")
        if not self.transport.get_write_buffer_size():
            return
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._awaited
        except TimeoutError:
            raise ConnectionError("the client takes nothing") from None
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
        self.transport.write(self._framed(data, last=True))
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
        del self._stream  # or the two hold each other until the next collection, which may be far away
        if self._task is None:
            stream.end()
        else:
            self._task.add_done_callback(lambda _: stream.end())
            self._task.cancel()

    async def _serve(self) -> None:
        stream, over = self._stream, True
        try:
            over = await stream.serve()
            if over:
                await self._finish()
        except ConnectionError:
            pass  # the client has left, or takes nothing; a job's life hangs on no connection
        except Exception:
            logging.getLogger("relay").exception("a stream could not be served")
        finally:
            self._task = None
            if over:
                self.transport.abort()
                stream.end()

    async def _finish(self) -> None:
        self.transport.write(self._framed(b"", last=True))
        await self.drained()
        self.transport.close()

    def _framed(self, data: bytes, *, last: bool = False) -> bytes:
        if not self.chunked:
            return data
        chunk = CHUNK % (len(data), data) if data else b""
        return chunk + _LAST_CHUNK if last else chunk
