"""A request whose bytes still wait in the kernel: its head was looked at, and nothing was read from the connection."""

import asyncio
from typing import Any, Final, cast

from aiohttp import HttpVersion11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web import Application, Request, RequestPayloadError

from web.request_heads import REQUEST_LINE

__all__ = ["HEAD_LIMIT", "PeekedRequest", "PeekedRequests"]

HEAD_LIMIT: Final = 8 * 1024
"""Bytes of a head that are looked at. A longer one is aiohttp's, as everything unusual is."""

_BEGIN: Final = b"GET /v1/"
_END: Final = b"\r\n\r\n"

_READ_BUFFER: Final = 64 * 1024

_UNUSUAL: Final = ("Content-Encoding", "Content-Length", "Expect", "Transfer-Encoding", "Upgrade")
"""Fields of which aiohttp knows what they mean."""


class _Peer:
    """The connection of a client that has no transport, as a request sees it."""

    ssl_context = None
    sockname = None

    def __init__(self, peername: Any) -> None:
        self.peername = peername

    @property
    def transport(self) -> "_Peer":
        return self

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peername if name == "peername" else default

    def close(self) -> None: ...


class PeekedRequest(Request):
    """A request that no route was looked up for, and that no task handles: checks can be made of it, and no more."""

    ATTRS = Request.ATTRS | frozenset({"_app"})

    def __init__(
        self, message: RawRequestMessage, app: Application, peername: Any, loop: asyncio.AbstractEventLoop
    ) -> None:
        peer, absent = cast(Any, _Peer(peername)), cast(Any, None)
        super().__init__(message, EMPTY_PAYLOAD, peer, absent, absent, loop)
        self._app = app

    @property
    def app(self) -> Application:
        return self._app


class PeekedRequests:
    """Reads requests to *app* with aiohttp's own parser, and with the limits that its connections have here."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._protocol = BaseProtocol(self._loop)

    def read(self, data: bytes, peername: Any) -> PeekedRequest | None:
        """The request that *data* is; None unless it is one whole plain GET of HTTP/1.1 without a body."""
        if not data.startswith(_BEGIN) or data.find(_END) != len(data) - len(_END):
            return None
        try:
            messages, upgraded, _ = self._parser().feed_data(data)
        except Exception:
            return None  # aiohttp answers it, and counts it
        if upgraded or len(messages) != 1:
            return None
        message, body = messages[0]
        if message.version != HttpVersion11 or message.upgrade or message.chunked or body is not EMPTY_PAYLOAD:
            return None
        if any(name in message.headers for name in _UNUSUAL):
            return None
        return PeekedRequest(message, self._app, peername, self._loop)

    def _parser(self) -> HttpRequestParser:
        # One for each head: it costs less than a microsecond, and nothing of a request can be left in it.
        return HttpRequestParser(
            self._protocol,
            self._loop,
            _READ_BUFFER,
            max_line_size=REQUEST_LINE,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
        )
