"""A connection before and between its requests: limits of unfinished heads, and the response to a malformed one.

aiohttp has no hook for either: its connections keep up to 1.25 MiB of a head that is never finished, and log a
traceback for each head that cannot be read.
"""

from asyncio import AbstractEventLoop
from http import HTTPStatus
from typing import Any, Final

from aiohttp import StreamReader
from aiohttp.http_exceptions import BadHttpMessage, InvalidHeader, InvalidURLError, LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, RequestPayloadError, Server, StreamResponse

from relay.text import bounded
from web.memory import MemoryBudget
from web.middleware.problems import problem_response
from web.request_failures import RequestFailures

__all__ = ["HEADS_LIMIT", "REQUEST_LINE", "Connection"]

REQUEST_LINE: Final = 256 * 1024
"""Bytes of the address of a request, for aiohttp's `max_line_size`. Its default of 8,190 bytes is full at 300 jobs of a
stream, with a response that does not explain it; a client that names ten thousand still receives the reason. The 128
fields of a head may hold four times as much."""

HEADS_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of all unfinished heads together. Parsed and unparsed they need up to six times as much memory."""

SLICE: Final = 16 * 1024
"""Bytes that are parsed at a time; at most that much of a further head can follow a request unnoticed."""

WHY_LIMIT: Final = 100


class Connection(RequestHandler):
    """aiohttp's server connection; the unfinished heads of all connections share the budget *heads*."""

    __slots__ = ("_body", "_failures", "_heads")

    def __init__(
        self, server: Server, heads: MemoryBudget, failures: RequestFailures, *, loop: AbstractEventLoop, **options: Any
    ) -> None:
        # Otherwise aiohttp inflates a body before the relay can refuse it.
        super().__init__(server, loop=loop, max_line_size=REQUEST_LINE, auto_decompress=False, **options)
        self._heads = heads
        self._failures = failures
        self._body: StreamReader | None = None

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            self._receive(data[start : start + SLICE])
        if not data:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._heads.release(self)
        super().connection_lost(exc)

    def evict(self) -> None:
        """This head is the largest while the budget of all heads is exceeded."""
        self._failures.malformed("too many unfinished request heads, and this was the largest", None)
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> StreamResponse:
        """The response if no handler is reached, or none could answer. Counted, and reported in one line."""
        if status == HTTPStatus.BAD_REQUEST:
            why = _why(exc)
            self._failures.malformed(why, request.remote)
            detail = f"this request cannot be read: {why}"
        else:
            self._failures.failed("a request could not be answered", exc)
            detail = "the relay failed; its log says why"
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been begun, and another one cannot follow")
        response = problem_response(status, detail, {"Cache-Control": "no-store"})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ARG002
        """Replace aiohttp's traceback by one line, and count the failure."""
        error = kw.get("exc_info")
        self._failures.failed("a connection failed", error if isinstance(error, BaseException) else None)

    def _receive(self, data: bytes) -> None:
        in_head = self._body is None or self._body.is_eof()
        requests = self._request_count
        try:
            super().data_received(data)
        except Exception as error:
            # Some supported versions of aiohttp raise for a target that is no URL, instead of answering 400.
            self._failures.malformed(_why(error), None)
            self.force_close()
            return
        if self._request_count != requests:
            self._heads.release(self)
            if self._body is not None and not self._body.is_eof():
                # A request cannot follow half a body: the framing is broken, and the handler would wait in vain.
                self._body.set_exception(RequestPayloadError())
                self._body.feed_eof()
            self._body = self._messages[-1][1]
        elif in_head:
            self._heads.reserve(self, len(data))


def _why(error: BaseException | None) -> str:
    """The reason without the request's own bytes, which may be a secret."""
    match error:
        case InvalidURLError():
            return "its target is no URL"
        case InvalidHeader():
            return "a header cannot be as it is"
        case LineTooLong():
            return "its address or a header is too long"
        case BadHttpMessage(message=str(message)):
            return bounded(message.partition(":")[0].strip().rstrip("."), WHY_LIMIT)
        case _:
            return "it is no HTTP/1.1"
