"""Every error as `application/problem+json` (RFC 9457): one sentence that says what to do."""

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp.web import HTTPException, Request, Response, StreamResponse, middleware

from relay.errors import BusyError, ConflictError, RelayError, UnknownJobError, UpstreamError, UsageError

__all__ = ["RequestError", "problem_response", "problems"]

Handler = Callable[[Request], Awaitable[StreamResponse]]

_STATUS: tuple[tuple[type[RelayError], HTTPStatus], ...] = (
    (UnknownJobError, HTTPStatus.NOT_FOUND),
    (BusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConflictError, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (UpstreamError, HTTPStatus.BAD_GATEWAY),
)


class RequestError(Exception):
    """An answer that is an error, raised where it is found."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def problem_response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The response for a problem. [spec] RFC 9457, 3.1: without a `type`, the `title` is the status phrase."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(
        status=status,
        body=json.dumps(body).encode("ascii"),
        content_type="application/problem+json",
        headers=headers,
    )


@middleware
async def problems(request: Request, handler: Handler) -> StreamResponse:
    """Turn whatever a handler raises into a problem."""
    try:
        return await handler(request)
    except RequestError as problem:
        return problem_response(problem.status, problem.detail, problem.headers)
    except HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return problem_response(error.status, _detail(request, error), _kept(error))
    except RelayError as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        headers = {"Retry-After": "10"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
        return problem_response(status, str(error), headers)
    except Exception as error:
        if isinstance(error, ConnectionError) and _has_left(request):
            # Nobody reads an answer: it is no failure, and no lines for the operator.
            return Response()
        logging.getLogger("relay").exception("a request to %s could not be answered", request.rel_url.path)
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the relay failed; its log says why")


def _has_left(request: Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _detail(request: Request, error: HTTPException) -> str:
    match error.status:
        case HTTPStatus.NOT_FOUND:
            return f"nothing is at {request.path}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{request.method} is not possible here; try {error.headers.get('Allow', 'GET')}"
        case _:
            return error.text or error.reason


def _kept(error: HTTPException) -> dict[str, Any]:
    return {name: value for name, value in error.headers.items() if name in ("Allow", "Retry-After")}
