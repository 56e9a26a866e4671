"""Liveness and readiness."""

import os
import socket
from http import HTTPStatus

from aiohttp.web import Request, Response

from web.app_keys import RELAY
from web.middleware.problems import problem_response
from web.streaming.keys import STREAMS

__all__ = ["healthz", "readyz"]


async def healthz(_: Request) -> Response:
    """`GET /healthz`: 200 while the process answers."""
    return Response(text="ok\n")


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 200 while the relay accepts new work, 503 before start-up, from the start of the shutdown, while
    the relay has a problem (`Relay.problems`), and if no file descriptor is left for a new connection."""
    if not request.app[RELAY].running or request.app[STREAMS].closing:
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, "the relay is starting or shutting down")
    if wrong := request.app[RELAY].problems():
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, ". ".join(wrong))
    try:
        socket.socket().close()
    except OSError as error:
        return problem_response(
            HTTPStatus.SERVICE_UNAVAILABLE, f"no connection can be accepted: {os.strerror(error.errno or 0)}"
        )
    return Response(text="ready\n")
