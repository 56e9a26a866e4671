"""Who may ask at all: the hosts this relay answers to, and no page of another origin."""

from http import HTTPStatus

from aiohttp.web import Request, StreamResponse, middleware

from web.keys import OPTIONS
from web.problems import Handler, RequestError

__all__ = ["guard"]


@middleware
async def guard(request: Request, handler: Handler) -> StreamResponse:
    """Refuse a name that is not ours (DNS rebinding), and what another site's page asks for (CSRF)."""
    hosts, origins = request.app[OPTIONS].hosts, request.app[OPTIONS].origins
    if hosts is not None and _name(request.host) not in hosts:
        raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, "this relay does not answer to that host name")
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() not in {f"{request.scheme}://{request.host}".lower(), *origins}:
        raise RequestError(HTTPStatus.FORBIDDEN, "pages of this origin may not use this relay")
    return await handler(request)


def _name(host: str) -> str:
    """The host without its port; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
