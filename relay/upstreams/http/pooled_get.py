"""GET over kept connections, without what `ClientSession` does for each: the one place that knows its insides.

A poll is one small request again and again. Of the CPU it takes, `ClientSession` spends more on the request's objects
(URL, headers, timer, response) than all else together. Here the connector, its pool and the parser are aiohttp's as
ever, and so are the limits of what is read; the request is written once per set of headers, as `ClientRequest` would
head it, and only its target changes. Where aiohttp looks otherwise than it is known here, `quick_gets` is None, and
its session asks.
"""

import asyncio
import inspect
import re
from collections.abc import Mapping
from typing import Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from relay.clock import TimeLimits
from relay.upstreams.http.first_piece import first_pieces
from relay.upstreams.http.kept_connections import KeptConnections
from relay.upstreams.http.partial_response import PartialResponse

__all__ = ["PooledGet", "quick_gets"]

_UNSAFE: Final = re.compile(r"[\x00\r\n]")

_PLAIN: Final = re.compile(r"(?:/(?!\.)[A-Za-z0-9_.~-]+)+")
"""A path that stands in a request as it is. yarl resolves dots, and writes other characters in its own way."""


def quick_gets(base: str, connector: aiohttp.BaseConnector, timeout: aiohttp.ClientTimeout) -> "PooledGet | None":
    """GETs below *base* over the connections of *connector*; None where this aiohttp does not offer what they take."""
    try:
        inspect.signature(connector.connect).bind(None, [], timeout)
        inspect.signature(ResponseHandler.set_response_params).bind(None, read_until_eof=True)
        requests = PooledGet(URL(base), connector, timeout)
    except (AttributeError, TypeError, ValueError):
        return None
    return requests


class PooledGet:
    """GETs of one origin. A request is as *timeout* allows, connecting included, and is never redirected."""

    def __init__(self, base: URL, connector: aiohttp.BaseConnector, timeout: aiohttp.ClientTimeout) -> None:
        self._base = base
        self._origin = f"{base.scheme}://{base.raw_authority}"
        self._connector = connector
        self._timeout = timeout
        self._limits = TimeLimits(timeout.total)
        self._kept = KeptConnections()
        self._first_piece = first_pieces()
        self._headers: Mapping[str, str] = {}
        self._head_for({"Accept": "application/json"})

    def close(self) -> None:
        """Leave no idle connection and no timer behind."""
        self._kept.close()
        self._limits.close()

    async def get(self, url: str, headers: Mapping[str, str], arriving: PartialResponse) -> None:
        """Ask for *url*, below the base, and let the answer arrive.

        Raises what `ClientSession.get` does; HttpProcessingError where that raises ClientResponseError.
        """
        self._head_for(headers)
        head = b"GET %b HTTP/1.1\r\n%b" % (self._target(url), self._head)
        with self._limits.limit():
            try:
                await self._ask(head, arriving)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                # The server may have closed a kept connection just as it was used (RFC 9112, 9.3.1).
                await self._ask(head, arriving.anew())

    def _target(self, url: str) -> bytes:
        path = url.removeprefix(self._origin)
        if path is not url and _PLAIN.fullmatch(path):
            return path.encode("ascii")
        return URL(url).raw_path_qs.encode("ascii")

    async def _ask(self, head: bytes, arriving: PartialResponse) -> None:
        connection = self._kept.take() or await self._connect()
        try:
            protocol = cast("ResponseHandler", connection.protocol)
            transport = cast("asyncio.Transport", protocol.transport)
            first = self._first_piece(protocol, transport, arriving.limit)
            transport.write(head)
            if (whole := await first.answer) is not None:
                arriving.status, (arriving.headers, arriving.content) = 200, whole
            else:
                await self._read(protocol, arriving)
        except BaseException:
            connection.close()
            raise
        if protocol.should_close:
            # Half an answer came, or more than one, or `Connection: close`.
            connection.close()
        else:
            self._kept.keep(connection)

    async def _read(self, protocol: ResponseHandler, arriving: PartialResponse) -> None:
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        arriving.status, arriving.headers = message.code, message.headers
        await arriving.read(payload)

    async def _connect(self) -> Connection:
        while True:
            connection = await self._connector.connect(self._request, [], self._timeout)
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                return connection
            # Bytes arrived without a request; they would be read as the next answer.
            connection.close()

    def _head_for(self, headers: Mapping[str, str]) -> None:
        if headers is self._headers or headers == self._headers:
            return
        self._request = aiohttp.ClientRequest("GET", self._base, headers=headers, loop=asyncio.get_running_loop())
        lines = [f"{name}: {value}" for name, value in self._request.headers.items()]
        if any(map(_UNSAFE.search, lines)):
            raise ValueError("a header with a line break or a zero byte in it")
        self._head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        self._headers = headers
