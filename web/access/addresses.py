"""The address of a request's client, also behind a proxy that is believed."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from aiohttp.web import Request

from web.access.access import ACCESS

__all__ = ["UNIX", "Network", "client_of", "forwarded_address", "is_within", "plain_address", "remote_of"]

Network: TypeAlias = IPv4Network | IPv6Network

UNIX: Final = ""
"""The address of a client of a unix socket."""

FORWARDED_LIMIT: Final = 32
"""How many addresses of `X-Forwarded-For` are read, from the right: a chain of proxies has two or three."""

KNOWN: Final = 1_024
"""How many addresses are remembered as clients: to read one costs as much as to find an API key."""

_PREFIX: Final = 64
"""[spec] RFC 4291, 2.5.1: the network of one IPv6 client, whose addresses it can change at will."""


def client_of(request: Request) -> str:
    """The client whose use is counted: the subject of its access, or else its address.

    An address is an IPv4 address or an IPv6 network; behind a proxy that is not believed it is the proxy's.
    """
    access = request.get(ACCESS)
    return access.subject if access is not None and access.subject else plain_address(remote_of(request))


def remote_of(request: Request) -> str | None:
    """The address that the connection of *request* comes from, UNIX for every client of a unix socket.

    Such a client can bind its own socket to any name, also to one that looks like an address, and `request.remote` is
    that name then. None if the client has left before its address was read.
    """
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return UNIX if isinstance(peer, str | bytes) else request.remote


@lru_cache(KNOWN)
def plain_address(remote: str | None) -> str:
    """*remote* as one client: an IPv4 address, an IPv6 network, or the text as it is if it is no address."""
    try:
        address = ip_address((remote or UNIX).partition("%")[0])
    except ValueError:
        return remote or UNIX
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(ip_network((address, _PREFIX), strict=False))


def is_within(remote: str | None, networks: Sequence[Network]) -> bool:
    """Whether *remote* is an address of one of *networks*."""
    try:
        address = ip_address((remote or UNIX).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    return any((mapped or address) in network or address in network for network in networks)


def forwarded_address(request: Request, networks: Sequence[Network]) -> str | None:
    """The right-most address of `X-Forwarded-For` that is none of the proxies in *networks*; None where there is none.

    What stands further left was sent by the client, and can be anything.
    """
    said = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
    for part in reversed(said[-FORWARDED_LIMIT:]):
        text = part.strip()
        try:
            ip_address(text)
        except ValueError:
            return None
        if not is_within(text, networks):
            return plain_address(text)
    return None
