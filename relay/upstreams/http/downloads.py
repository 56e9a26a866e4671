"""Files of upstreams, read as streams of bytes for clients that are to receive them from here.

The address of a file is chosen by an upstream, and may lead anywhere (server-side request forgery). Each connection,
that after a redirect too, is therefore to a public address, or to the origin of the upstream's own API, which the
operator has configured. The credentials of the upstream are sent to that origin alone.
"""

import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from relay.errors import UpstreamError
from relay.upstreams.base import Upstream
from relay.upstreams.http.account import AccountUpstream
from relay.upstreams.http.addresses import is_public
from relay.upstreams.http.client import FileAccess
from relay.upstreams.http.pinned_resolver import PinnedResolver, PrivateAddressError
from relay.upstreams.http.status import error_kind_for_status
from relay.upstreams.http.transport import error_without_answer

__all__ = ["Download", "Downloads"]

REDIRECTS: Final = 5

IDLE: Final = 30.0
"""Seconds without a byte of the file, while its client reads."""

WHOLE: Final = 3_600.0
"""Seconds for a whole file: a client that takes longer, such as a player that pauses, continues with a range."""

_CHUNK: Final = 64 * 1024
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_CONTENT_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)")


class Downloads:
    """Opens files. With *allow_private*, files may be at private addresses too. *resolver* looks up host names."""

    def __init__(self, *, allow_private: bool = False, resolver: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._resolver = resolver

    def redirect_for(self, url: str, upstream: Upstream | None) -> str | None:
        """Where a client finds the file at *url*; None if that is at the API of *upstream*, which wants its token.

        Raises UpstreamError as `open`.
        """
        target = _address(url)
        return None if _access(target, upstream) is not None else str(target)

    @asynccontextmanager
    async def open(
        self, url: str, upstream: Upstream | None = None, *, headers: Mapping[str, str] | None = None, limit: int
    ) -> AsyncGenerator["Download"]:
        """The file at *url*, a result of *upstream*, of at most *limit* bytes. *headers* go with each request.

        Raises UpstreamError: `not-found` if there is no file any more, `refused` for an address that is not connected
        to, `malformed` for an answer that is no file within the limit, and as `HttpClient` for the rest.
        """
        async with AsyncExitStack() as stack:
            target = _address(url)
            for _ in range(REDIRECTS + 1):
                access = _access(target, upstream)
                response = await self._ask(stack, target, access, headers or {})
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    yield Download(response, limit, own=access is not None, partial="Range" in (headers or {}))
                    return
                response.close()
                target = _address(location, target)
            raise UpstreamError("refused", f"the file is behind more than {REDIRECTS} redirects")

    async def _ask(
        self, stack: AsyncExitStack, url: URL, access: FileAccess | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The head of the answer, over a connection of its own: a kept one might lead to where no other file may be."""
        host, anywhere = url.raw_host or "", access is not None or self._allow_private
        if not anywhere and _is_literal(host) and not is_public(host):
            raise _private(host)
        inner = access.resolver if access is not None else self._resolver
        resolver = _CheckedResolver(inner or PinnedResolver(aiohttp.ThreadedResolver()), anywhere=anywhere)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True),
                timeout=aiohttp.ClientTimeout(total=WHOLE, sock_connect=IDLE, sock_read=IDLE),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        )
        own = access.headers if access is not None else {"User-Agent": "progress-relay"}
        sent = {**own, **headers, "Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            response = await session.get(url, headers=sent, allow_redirects=False)
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
            problem = _problem(error, host, anywhere=anywhere)
        else:
            stack.callback(response.close)
            return response
        # Not raised from within: aiohttp's exception carries the headers of the request.
        raise problem


class ContentRange(Struct, frozen=True):
    """Which bytes of how many an answer holds; *first* and *last* are None if the range could not be satisfied."""

    first: int | None
    last: int | None
    total: int | None

    def __str__(self) -> str:
        span = "*" if self.first is None else f"{self.first}-{self.last}"
        return f"bytes {span}/{'*' if self.total is None else self.total}"


class Download:
    """An open file: *status* is 200, 206, or 416 for a range that it does not have. *length* is in bytes, if known."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int, *, own: bool, partial: bool) -> None:
        """Raises UpstreamError as `Downloads.open`."""
        self._response = response
        self._limit = limit
        self._host: str = response.url.raw_host or ""
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.range: ContentRange | None = _range(response.headers.get("Content-Range", ""))
        self._check_status(own=own, partial=partial)
        self.length: int | None = response.content_length if self.status != _UNSATISFIABLE else 0
        self._check_length()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, as far as the file is within the limit. Raises UpstreamError if they break off before the end."""
        if self.status == _UNSATISFIABLE:
            return
        size, problem = 0, None
        try:
            while chunk := await self._response.content.read(_CHUNK):
                size += len(chunk)
                if size > self._limit:
                    break
                yield chunk
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
            problem = _problem(error, self._host, anywhere=True)
        if problem is not None:
            raise problem
        if size > self._limit:
            raise self._too_long()

    def _check_status(self, *, own: bool, partial: bool) -> None:
        status = self.status
        if status == HTTPStatus.OK or (partial and status in (HTTPStatus.PARTIAL_CONTENT, _UNSATISFIABLE)):
            return
        if 200 <= status < 400:
            raise UpstreamError("malformed", f"the server of the file answered {status}, which is no file")
        kind = error_kind_for_status(status)
        if kind == "auth" and not own:
            raise UpstreamError("not-found", f"the server of the file answered {status}; its address may have expired")
        raise UpstreamError(kind, f"the server of the file answered {status}")

    def _check_length(self) -> None:
        if self._response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise UpstreamError("malformed", "the server of the file has compressed it, without being requested to")
        if self.status == HTTPStatus.PARTIAL_CONTENT:
            span = self.range
            if span is None or span.first is None or span.last is None or span.last < span.first:
                raise UpstreamError("malformed", "the server of the file sent a part without a usable Content-Range")
            if self.length not in (None, span.last - span.first + 1):
                raise UpstreamError("malformed", "the server of the file sent a part of another length than it names")
            if span.total is not None and span.total > self._limit:
                raise self._too_long()
        if self.length is not None and self.length > self._limit:
            raise self._too_long()

    def _too_long(self) -> UpstreamError:
        return UpstreamError("malformed", f"the file is longer than {self._limit:,} bytes")


class _CheckedResolver(AbstractResolver):
    """Looks names up with *inner*, and unless *anywhere* leaves out each address that is not public."""

    def __init__(self, inner: AbstractResolver, *, anywhere: bool) -> None:
        self._inner = inner
        self._anywhere = anywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host* that may be used."""
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._anywhere or is_public(result["host"])]
        if found and not allowed:
            raise PrivateAddressError(f"{host} leads to a private address")
        return allowed

    async def close(self) -> None:
        """Leave *inner* open: it may belong to an upstream."""


_UNSATISFIABLE: Final = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _access(url: URL, upstream: Upstream | None) -> FileAccess | None:
    """The access to *url* if that is at the API of *upstream*; None for any other address, which receives no secret."""
    if not isinstance(upstream, AccountUpstream) or url.origin() != URL(upstream.base_url).origin():
        return None
    return upstream.file_access()


def _address(text: str, base: URL | None = None) -> URL:
    """*text* as it was sent, since a signed address works with no other spelling; relative to *base*, if there is one.

    Raises UpstreamError (refused) for anything but an http or https address without a user name.
    """
    as_sent = text.isascii() and text.isprintable() and " " not in text
    with suppress(ValueError):
        url = URL(text, encoded=as_sent)
        url = base.join(url) if base is not None else url
        if url.scheme in ("http", "https") and url.raw_host and url.port and url.raw_user is url.raw_password is None:
            return url
    raise UpstreamError("refused", "the address of the file is no http or https address that can be used")


def _is_literal(host: str) -> bool:
    """Whether aiohttp connects to *host* without a look-up: an IPv6 address, or digits and dots in any number."""
    return ":" in host or host.replace(".", "").isdigit()


def _range(value: str) -> ContentRange | None:
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last, total = (int(part) if part and part != "*" else None for part in match.groups())
    return ContentRange(first, last, total)


def _problem(error: Exception, host: str, *, anywhere: bool) -> UpstreamError:
    match error:
        case aiohttp.ClientConnectorDNSError(os_error=PrivateAddressError()) if not anywhere:
            return _private(host)
        case ValueError() if not isinstance(error, aiohttp.ClientError | OSError):
            return UpstreamError("refused", "the address of the file cannot be requested")
        case _:
            return error_without_answer(error, host, IDLE)


def _private(host: str) -> UpstreamError:
    return UpstreamError(
        "refused",
        f"the file is at a private address ({host}), which is not read; `allow_private` of [gateway] allows it",
    )
