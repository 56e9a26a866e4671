"""The body of a request, within bounds."""

import asyncio
from http import HTTPStatus
from typing import Final

from aiohttp.web import Request

from web.problems import RequestError

__all__ = ["read_body"]

BODY_LIMIT: Final = 1024 * 1024
BODY_SECONDS: Final = 30.0


async def read_body(request: Request) -> bytes:
    """The body, at most BODY_LIMIT bytes of it, whatever limit the application around this one has."""
    too_large = RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_LIMIT:,} bytes")
    if (request.content_length or 0) > BODY_LIMIT:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise too_large
    except TimeoutError:
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive in {BODY_SECONDS:.0f} s") from None
    return bytes(body)
