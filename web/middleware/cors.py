"""Lets pages of listed origins read responses: Cross-Origin Resource Sharing ([spec] Fetch, 3.2)."""

from http import HTTPStatus
from typing import Final

from aiohttp.web import Request, Response, StreamResponse, middleware

from web.app_keys import OPTIONS
from web.middleware.origin_check import page_origin
from web.middleware.problems import Handler, RequestError

__all__ = ["add_cors_headers", "answer_preflight", "listed_origin", "set_cors_headers"]

METHODS: Final = "GET, HEAD, POST, DELETE"

HEADERS: Final = "authorization, content-type, idempotency-key, last-event-id"
"""What a page may send beside the headers that any page may send. Other headers of the gateway's clients are not
for pages."""

EXPOSED: Final = ", ".join(
    (
        "ETag",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Relay-Heartbeat",
        "Retry-After",
        "WWW-Authenticate",
        "X-Relay-Job",
    )
)

PREFLIGHT_FOR: Final = 600
"""Seconds for which a browser may remember the response to a preflight; some limit it to ten minutes themselves."""


@middleware
async def answer_preflight(request: Request, handler: Handler) -> StreamResponse:
    """Answer the preflight of a listed origin, which carries no credentials, before anything asks for them.

    To be placed behind `check_origin`, which refuses all other origins.
    """
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    if listed_origin(request) is None:
        return await handler(request)
    return Response(
        status=HTTPStatus.NO_CONTENT,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_FOR),
        },
    )


async def add_cors_headers(request: Request, response: StreamResponse) -> None:
    """A signal of the application: see `set_cors_headers`."""
    set_cors_headers(request, response)


def set_cors_headers(request: Request, response: StreamResponse) -> None:
    """Let a page of a listed origin read *response*, whatever it is, with cookies; a cache keeps origins apart."""
    varies = response.headers.get("Vary")
    response.headers["Vary"] = f"{varies}, Origin" if varies else "Origin"
    if (origin := listed_origin(request)) is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def listed_origin(request: Request) -> str | None:
    """The origin of the page that sent *request*, if it is one of `origins`."""
    try:
        origin = page_origin(request)
    except RequestError:
        return None
    return origin if origin in request.app[OPTIONS].origins else None
