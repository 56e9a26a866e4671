"""Every error as `application/problem+json` (RFC 9457): one sentence that says what to do."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from aiohttp.web import AppKey, HTTPException, Request, Response, StreamResponse, middleware

from relay import (
    BusyError,
    ConflictError,
    JournalError,
    Redactor,
    RelayError,
    UnavailableError,
    UnknownJobError,
    UpstreamError,
    UsageError,
)
from relay.notices import interrupts
from relay.text import bounded
from web.app_keys import RELAY
from web.request_failures import FAILURES

__all__ = ["DETAIL_LIMIT", "ERROR_FORMAT", "ErrorFormat", "RequestError", "problem_response", "problems"]

DETAIL_LIMIT: Final = 500
"""Characters of a sentence, which may quote the request."""

Handler = Callable[[Request], Awaitable[StreamResponse]]

_STATUS: tuple[tuple[type[RelayError], HTTPStatus], ...] = (
    (UnknownJobError, HTTPStatus.NOT_FOUND),
    (BusyError, HTTPStatus.SERVICE_UNAVAILABLE),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConflictError, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (UpstreamError, HTTPStatus.BAD_GATEWAY),
    (JournalError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RelayError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


class RequestError(Exception):
    """An error response, raised where the error is found."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers: dict[str, str] = headers or {}


ErrorFormat = Callable[[Request, RequestError], Response]

ERROR_FORMAT: Final = AppKey[ErrorFormat]("error_format")
"""How the errors of the application's routes are sent; some routes have clients that read another form."""


_without_tokens: Final = Redactor()
"""Masks a token that a client has put where it does not belong, and that a detail repeats. It knows no secret: whether
it masks a text would say whether that is a part of one."""


def problem_response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The response for a problem. [spec] RFC 9457, 3.1: without a `type`, the `title` is the status phrase."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": bounded(detail, DETAIL_LIMIT)}
    return Response(
        status=status,
        body=json.dumps(body).encode("ascii"),
        content_type="application/problem+json",
        headers=headers,
    )


@middleware
async def problems(request: Request, handler: Handler) -> StreamResponse:
    """Turn every error of a handler into a response in the form of its route."""
    respond = partial(request.app[ERROR_FORMAT], request)
    try:
        return await handler(request)
    except RequestError as problem:
        problem.detail = _without_tokens(problem.detail)
        return respond(problem)
    except HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return respond(RequestError(HTTPStatus(error.status), _without_tokens(_detail(request, error)), _kept(error)))
    except RelayError as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        # The text about an unknown job is the client's own.
        redact = _without_tokens if isinstance(error, UnknownJobError) else request.app[RELAY].redactor
        detail = redact(str(error))
        return respond(RequestError(status, detail, _retry_after(error, status)))
    except BaseException as error:
        if interrupts(error, asyncio.current_task()):
            raise
        if isinstance(error, ConnectionError) and _has_left(request):
            # The client has left and reads no response: this is no failure, and no line for the operator.
            return Response()
        request.app[FAILURES].failed(f"a request to {_route(request)} could not be answered", error)
        return respond(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "the relay failed; its log says why"))


def _retry_after(error: RelayError, status: HTTPStatus) -> dict[str, str] | None:
    """[spec] RFC 9110, 10.2.3: Retry-After is in whole seconds."""
    if isinstance(error, UnavailableError):
        return {"Retry-After": str(math.ceil(error.retry_after))}
    return {"Retry-After": "10"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None


def _has_left(request: Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _route(request: Request) -> str:
    """The pattern of the path and not the path itself, which may be long, or hold a token."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "no route"


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
