"""The application that answers while the relay cannot start yet, since the server of its journal is not there."""

from http import HTTPStatus
from typing import Final

from aiohttp.web import Application, Request, Response

from web.health import healthz
from web.middleware.problems import problem_response

__all__ = ["create_waiting_app"]

RETRY_AFTER: Final = "5"
"""Seconds."""


def create_waiting_app() -> Application:
    """Answers `/healthz` with 200, as the process is well, and everything else with 503.

    A connection that asks for a stream is closed without an answer: an `EventSource` reconnects after that, and gives
    up after a 503.
    """
    app = Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_route("*", "/{rest:.*}", _turn_away)
    return app


async def _turn_away(request: Request) -> Response:
    if "text/event-stream" in request.headers.get("Accept", "") and request.transport is not None:
        request.transport.abort()
    return problem_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the relay is starting: it waits for the server of its journal, as its log says",
        {"Retry-After": RETRY_AFTER},
    )
