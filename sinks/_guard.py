"""Connections to public addresses alone: the defence of a webhook against server-side request forgery (SSRF).

An attacker with control of the URL of a webhook, or of the name in it, could else have the relay post to a machine in
the operator's own network. A resolver alone does not prevent that: aiohttp calls none for an address in the URL. So
each address, written or looked up, is checked when its socket is made, which is right before it is connected.
"""

import re
import socket
from collections.abc import Callable, Collection
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Final

from aiohttp import TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from relay.errors import UsageError
from relay.upstreams.http.addresses import is_public

__all__ = ["ATTEMPT", "PORTS", "Attempt", "ForbiddenAddressError", "check_url", "guarded_connector"]

PORTS: Final = (443, 8443)
"""The ports that are allowed unless private addresses are: anything else may be no web server at all."""

_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
"""A host as yarl writes it, which has turned other characters into punycode"""

_NUMBER: Final = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_LOCAL: Final = ("localhost", "local", "internal", "localdomain", "lan", "home.arpa")

SocketAddress = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""Family, type, protocol, canonical name and address, as `getaddrinfo` returns them."""


class Attempt:
    """One request, and whether a connection is made for it: without one, it is sent over a kept connection."""

    __slots__ = ("connects",)

    def __init__(self) -> None:
        self.connects = False


ATTEMPT: Final[ContextVar[Attempt]] = ContextVar("ATTEMPT")
"""The request that the current task makes"""


class ForbiddenAddressError(OSError):
    """A connection to an address that the Internet does not reach; the message says to which, and not more."""


def check_url(text: str, *, allow_private: bool, ports: Collection[int] = PORTS) -> URL:
    """The URL that *text* is, if it may be posted to. No name is looked up: the check at connect is another one.

    Raises UsageError, which says what is wrong and repeats no more than the host: the rest of a URL may be a secret.
    """
    # A URL that does not parse is not repeated, and neither is what the parser says, which quotes it.
    url = _parsed(text)
    host = "" if url is None else url.raw_host or ""
    if url is None or not _HOST.fullmatch(host):
        raise UsageError("is no URL with a host; write one such as https://hooks.example/relay")
    if url.raw_user is not None or url.raw_password is not None:
        raise UsageError(f"has a user or a password before the host {host}; send them as a header, from env:NAME")
    if url.raw_fragment:
        raise UsageError(f"has a fragment (#...), which {host} would never receive; remove it")
    if url.scheme not in ("https", "http"):
        raise UsageError("begins with neither https:// nor http://")
    if allow_private:
        return url
    if url.scheme != "https":
        raise UsageError(f"is plain http, so anybody on the way to {host} reads it; use https, or {_ALLOW}")
    if url.port not in ports:
        listed = ", ".join(map(str, ports))
        raise UsageError(f"has the port {url.port}, and a webhook is posted to {listed}; add it to ports, or {_ALLOW}")
    if (problem := _problem_of_host(host)) is not None:
        raise UsageError(f"{problem}; if that is meant, {_ALLOW}")
    return url


_ALLOW: Final = "say allow_private = true"


def guarded_connector(
    *,
    limit: int,
    allow_private: bool,
    resolver: AbstractResolver | None = None,
    public: Callable[[str], bool] = is_public,
) -> TCPConnector:
    """A connector of up to *limit* connections that connects to public addresses alone, unless *allow_private*.

    The socket is made for one address, after the check, and connected to that address: what the name leads to a moment
    later is of no account. A name that leads to public and private addresses at once is refused as a whole: an honest
    one does not. A connection that is kept stays with the address that was checked. *public* distinguishes addresses.
    """
    inner = resolver or ThreadedResolver()

    def socket_of(address: SocketAddress) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not allow_private and not public(host):
            raise ForbiddenAddressError(f"{host} is not a public address")
        if (attempt := ATTEMPT.get(None)) is not None:
            attempt.connects = True
        return socket.socket(family, kind, protocol)

    names = inner if allow_private else _RefusingResolver(inner, public)
    return TCPConnector(resolver=names, socket_factory=socket_of, limit=limit)


class _RefusingResolver(AbstractResolver):
    """Looks names up with *inner*, and refuses those of which any address is not *public*."""

    def __init__(self, inner: AbstractResolver, public: Callable[[str], bool]) -> None:
        self._inner = inner
        self._public = public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host*. Raises ForbiddenAddressError unless all are public."""
        found = await self._inner.resolve(host, port, family)
        private = [result["host"] for result in found if not self._public(result["host"])]
        if private:
            beside = "" if len(private) == len(found) else ", beside public ones"
            raise ForbiddenAddressError(f"{host} leads to {private[0]}, which is not a public address{beside}")
        return found

    async def close(self) -> None:
        """Release *inner*."""
        await self._inner.close()


def _parsed(text: str) -> URL | None:
    try:
        url = URL(text)
        _ = url.port
    except (ValueError, TypeError):
        return None
    return url


def _problem_of_host(host: str) -> str | None:
    """Why *host* is refused already as it is written; None for a name, of which DNS decides, and a public address."""
    name = host.rstrip(".").lower()
    try:
        literal = str(ip_address(name.partition("%")[0]))
    except ValueError:
        literal = None
    if literal is not None:
        return None if is_public(literal) else f"leads to {host}, which is not a public address"
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Older parsers read 127.1, 0177.0.0.1 and 0x7f000001 as addresses (inet_aton); the URL standard does as well.
        return f"leads to {host}, which is an address in a spelling that hides it"
    if len(labels) == 1 or any(name == local or name.endswith(f".{local}") for local in _LOCAL):
        return f"leads to {host}, which is a name of the local network"
    return None
