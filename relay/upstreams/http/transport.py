"""aiohttp's client, as the relay uses it: an answer as far as it comes, and what went wrong in a sentence."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from relay.errors import UpstreamError, UsageError
from relay.upstreams.arriving import Arriving
from relay.upstreams.quick import QuickGets, quick_gets
from relay.upstreams.resolving import PinnedResolver, PrivateAddressError

__all__ = ["Transport"]


class Transport:
    """The connections to the API at *base*, a checked address. *timeout* is in seconds for a whole exchange.

    Redirects are not followed, cookies are not kept, and proxy variables of the environment are not read.
    """

    def __init__(self, base: str, *, timeout: float, resolver: AbstractResolver | None = None) -> None:
        self.host = urlsplit(base).netloc
        self._base = base
        self._timeout = timeout
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._quick: QuickGets | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(resolver=self._resolver or PinnedResolver(aiohttp.ThreadedResolver()))
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._quick = quick_gets(self._base, connector, timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session, self._quick = self._session, None, None
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """What all connections belong to. Raises UsageError where it is not open."""
        if self._session is None:
            raise UsageError("the HTTP client is not open; enter it with 'async with' first")
        return self._session

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, arriving: Arriving
    ) -> UpstreamError | None:
        """Ask once, let the answer arrive, and return what went wrong.

        It returns errors: what is raised while aiohttp's exception is handled would carry that along, and that
        carries the request's headers.
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
            return self._no_answer(error)
        if arriving.too_long:
            return UpstreamError("malformed", f"the answer is longer than {arriving.limit:,} bytes")
        return None

    def _no_answer(self, error: Exception) -> UpstreamError:
        match error:
            case TimeoutError():
                return UpstreamError("timeout", f"no whole answer from {self.host} within {self._timeout:g} s")
            case aiohttp.ClientConnectorDNSError(os_error=PrivateAddressError()):
                problem = f"{self.host} led to a public address and now leads to a private one, which is not asked"
                return UpstreamError("network", f"{problem}; restart the relay if that is meant")
            case aiohttp.ClientConnectorDNSError():
                return UpstreamError("network", f"the name of {self.host} could not be resolved")
            case aiohttp.ClientSSLError():
                return UpstreamError("network", f"no secure connection to {self.host}; check its certificate")
            case aiohttp.ClientConnectorError():
                return UpstreamError("network", f"no connection to {self.host}; check that it runs at this address")
            case aiohttp.ClientPayloadError() if "content-encoding" in str(error):
                return UpstreamError("malformed", f"the answer of {self.host} is not compressed as it says")
            case aiohttp.ClientPayloadError():
                return UpstreamError("network", f"the answer of {self.host} broke off before its end")
            case aiohttp.ClientResponseError() | aiohttp.http.HttpProcessingError():
                return UpstreamError("malformed", f"the answer of {self.host} is not valid HTTP")
            case aiohttp.InvalidURL():
                return UpstreamError("refused", f"the address at {self.host} is not valid; check base_url")
            case _:
                return UpstreamError("network", f"{self.host} closed the connection without a whole answer")
