"""Host names, looked up with care: one that led to the Internet is not followed into the local network."""

import socket
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["PinnedResolver", "PrivateAddressError", "is_public"]


class PrivateAddressError(OSError):
    """A name that led to a public address leads to a private one now: somebody may be playing with it."""


def is_public(address: str) -> bool:
    """Whether *address* is reached over the Internet: not private, loopback, link-local or otherwise special (IANA)."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_global


class PinnedResolver(AbstractResolver):
    """Looks names up with *inner*, and remembers which of them have led to a public address.

    Of what such a name leads to later, only public addresses are used; `resolve` raises PrivateAddressError where there
    is none. That is DNS rebinding: who controls the name of a public API could else have its requests, token and all,
    sent to a machine in the operator's own network. A name that has been private from the start stays free: it is what
    the operator configured. *public* tells the two apart.
    """

    def __init__(self, inner: AbstractResolver, *, public: Callable[[str], bool] = is_public) -> None:
        self._inner: Final = inner
        self._public: Final = public
        self._pinned: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of *host* that may be used."""
        found = await self._inner.resolve(host, port, family)
        public = [result for result in found if self._public(result["host"])]
        if public:
            self._pinned.add(host)
            return public
        if found and host in self._pinned:
            raise PrivateAddressError(f"{host} led to a public address before, and leads to a private one now")
        return found

    async def close(self) -> None:
        """Release *inner*."""
        await self._inner.close()
