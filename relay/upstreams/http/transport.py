"""aiohttp's client, as the relay uses it: an answer as far as it comes, and what went wrong in a sentence."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from relay.errors import UpstreamError, UsageError
from relay.upstreams.http.partial_response import PartialResponse
from relay.upstreams.http.pinned_resolver import PinnedResolver, PrivateAddressError
from relay.upstreams.http.pooled_get import PooledGet, quick_gets

__all__ = ["Transport", "error_without_answer"]


class Transport:
    """The connections to the API at *base*, a checked address. *timeout* is in seconds for a whole exchange.

    Redirects are not followed, cookies are not kept, and proxy variables of the environment are not read.
    """

    def __init__(self, base: str, *, timeout: float, resolver: AbstractResolver | None = None) -> None:
        self.host: str = urlsplit(base).netloc
        self._base = base
        self._timeout = timeout
        self._given_resolver = resolver
        self.resolver: AbstractResolver | None = None
        self._session: aiohttp.ClientSession | None = None
        self._quick: PooledGet | None = None

    async def __aenter__(self) -> Self:
        self.resolver = self._given_resolver or PinnedResolver(aiohttp.ThreadedResolver())
        connector = aiohttp.TCPConnector(resolver=self.resolver)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._quick = quick_gets(self._base, connector, timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, quick, self._session, self._quick = self._session, self._quick, None, None
        if quick is not None:
            quick.close()
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """What all connections belong to. Raises UsageError where it is not open."""
        if self._session is None:
            raise UsageError("the HTTP client is not open; enter it with 'async with' first")
        return self._session

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, arriving: PartialResponse
    ) -> UpstreamError | None:
        """Ask once, let the answer arrive, and return what went wrong.

        It returns errors: one raised while aiohttp's exception is handled would carry that along, and with it
        the request's headers.
        """
        session = self.session
        try:
            if self._quick is not None and method == "GET" and body is None:
                await self._quick.get(url, headers, arriving)
            else:
                async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
                    arriving.status, arriving.headers = response.status, response.headers
                    await arriving.read(response.content)
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError) as error:
            return error_without_answer(error, self.host, self._timeout)
        if arriving.too_long:
            return UpstreamError("malformed", f"the answer is longer than {arriving.limit:,} bytes")
        return None


def error_without_answer(error: Exception, host: str, timeout: float) -> UpstreamError:
    """What *error* of aiohttp means, which came in place of a whole answer of *host*; *timeout* is in seconds."""
    match error:
        case TimeoutError():
            return UpstreamError("timeout", f"no whole answer from {host} within {timeout:g} s")
        case aiohttp.ClientConnectorDNSError(os_error=PrivateAddressError()):
            problem = f"{host} led to a public address and now leads to a private one, which is not asked"
            return UpstreamError("network", f"{problem}; restart the relay if that is meant", acted=False)
        case aiohttp.ClientConnectorDNSError():
            return UpstreamError("network", f"the name of {host} could not be resolved", acted=False)
        case aiohttp.ClientSSLError():
            return UpstreamError("network", f"no secure connection to {host}; check its certificate", acted=False)
        case aiohttp.ClientConnectorError():
            return UpstreamError("network", f"no connection to {host}; check that it runs at this address", acted=False)
        case aiohttp.ClientPayloadError() if "content-encoding" in str(error):
            return UpstreamError("malformed", f"the answer of {host} is not compressed as it says")
        case aiohttp.ClientPayloadError():
            return UpstreamError("network", f"the answer of {host} broke off before its end")
        case aiohttp.ClientResponseError() | aiohttp.http.HttpProcessingError():
            return UpstreamError("malformed", f"the answer of {host} is not valid HTTP")
        case aiohttp.InvalidURL():
            return UpstreamError("refused", f"the address at {host} is not valid; check base_url", acted=False)
        case _:
            return UpstreamError("network", f"{host} closed the connection without a whole answer")
