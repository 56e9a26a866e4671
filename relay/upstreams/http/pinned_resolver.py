"""Host names, looked up with care: one that led to the Internet is not followed into the local network."""

import socket
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from relay.upstreams.http.addresses import is_public

__all__ = ["PinnedResolver", "PrivateAddressError"]


class PrivateAddressError(OSError):
    """A name that led to a public address leads to a private one now: somebody may be playing with it."""


class PinnedResolver(AbstractResolver):
    """Looks names up with *inner*, and remembers which of them have led to a public address.

    Of the later addresses of such a name, only public ones are used; `resolve` raises PrivateAddressError if there is
    none. This prevents DNS rebinding: an attacker with control of a public API's name could else have its requests,
    token included, sent to a machine in the operator's own network. A name that has been private from the start is
    allowed: the operator configured it. *public* distinguishes the two.
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
