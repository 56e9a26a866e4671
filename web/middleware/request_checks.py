"""Checks of a request's form: HTTP/1.0 or 1.1, a short path, and a body without Content-Encoding."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.web import BaseRequest, Request, StreamResponse, middleware

from web.middleware.problems import Handler, RequestError, problem_response

__all__ = ["PATH_LIMIT", "BaseHandler", "check_form", "check_request", "limit_path_length"]

PATH_LIMIT: Final = 4_096
"""Characters of a path as it is sent, without its query; the longest path of a route has about 1,000."""

_VERSIONS: Final = (HttpVersion10, HttpVersion11)

BaseHandler = Callable[[BaseRequest], Awaitable[StreamResponse]]


def limit_path_length(handler: BaseHandler) -> BaseHandler:
    """*handler*, which refuses long paths: aiohttp finds the route before any middleware runs, in a time that grows
    with the square of the number of slashes. One path of 256 KiB blocked the event loop for a minute.
    """

    async def checked(request: BaseRequest) -> StreamResponse:
        if len(request.rel_url.raw_path) > PATH_LIMIT:
            detail = f"a path has at most {PATH_LIMIT:,} characters"
            return problem_response(HTTPStatus.REQUEST_URI_TOO_LONG, detail, {"Cache-Control": "no-store"})
        return await handler(request)

    return checked


@middleware
async def check_request(request: Request, handler: Handler) -> StreamResponse:
    """Refuse a request that cannot be understood, before any of its body is read."""
    check_form(request)
    return await handler(request)


def check_form(request: Request) -> None:
    """Raises RequestError for a request that cannot be understood, and closes its connection behind an encoded body."""
    if request.version not in _VERSIONS:
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "send the request as HTTP/1.1")
    if _listed(request, "Content-Encoding") - {"identity"}:
        # By default aiohttp inflates a body a thousandfold, even if no handler reads it.
        request.protocol.close()
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without a Content-Encoding", {"Connection": "close"}
        )
    if _listed(request, "Expect") - {"100-continue"}:
        raise RequestError(HTTPStatus.EXPECTATION_FAILED, "only `Expect: 100-continue` can be met; leave others out")


def _listed(request: Request, name: str) -> set[str]:
    """The elements of a list header ([spec] RFC 9110, 5.6.1), in one field or several; empty elements are skipped."""
    if name not in request.headers:
        return set()
    elements = ",".join(request.headers.getall(name)).lower().split(",")
    return {element.strip() for element in elements} - {""}
