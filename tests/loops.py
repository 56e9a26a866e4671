"""The event loops that tests run on: asyncio's own, and uvloop without its one thread that a test cannot see."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from socket import SOCK_STREAM, AddressFamily
from typing import Any

from relay.cli.loops import LoopName

__all__ = ["factory_of"]


def factory_of(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    return _uvloop if name == "uvloop" else asyncio.new_event_loop


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    class Loop(uvloop.Loop):
        """Looks up a numeric address without a thread.

        uvloop 0.22 hands an address that is numeric already to a thread, at each connect. A clock that is moved by
        hand cannot know of it: on a busy machine the clock went on while a connect was still under way.
        """

        async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> list[Any]:
            if isinstance(host, str) and isinstance(port, int) and more.get("type", 0) in (0, SOCK_STREAM):
                try:
                    address = ip_address(host)
                except ValueError:
                    pass
                else:
                    return [_numeric(host, port, address.version)]
            return await super().getaddrinfo(host, port, **more)

    return Loop()


def _numeric(host: str, port: int, version: int) -> tuple[Any, ...]:
    if version == 4:
        return (AddressFamily.AF_INET, SOCK_STREAM, 6, "", (host, port))
    return (AddressFamily.AF_INET6, SOCK_STREAM, 6, "", (host, port, 0, 0))
