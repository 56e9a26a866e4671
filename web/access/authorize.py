"""The decision of the application around the relay about a request: its own session says who that is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.web import Request
from msgspec.structs import replace

from web.access.access import Access
from web.access.denied import unavailable

__all__ = ["AUTHORIZE_WITHIN", "RENEW", "Authorize", "decided"]

Authorize = Callable[[Request], Awaitable[Access | None]]
"""The application's own decision about a request: its access, or None."""

AUTHORIZE_WITHIN: Final = 10.0
"""Seconds that the application has to decide."""

RENEW: Final = 600.0
"""Seconds after which the application decides again about a stream, if it named no end."""


async def decided(authorize: Authorize, request: Request, now: float) -> Access | None:
    """What the application decides, with an end or a renewal in any case: it may decide otherwise later.

    An access that has expired at *now* is none.
    """
    try:
        async with asyncio.timeout(AUTHORIZE_WITHIN):
            access = await authorize(request)
    except TimeoutError:
        raise unavailable("the application did not say in time who this is; try again later", 10) from None
    if access is None or (access.expires is not None and access.expires <= now):
        return None
    return replace(access, renew=RENEW) if access.expires is None and access.renew is None else access
