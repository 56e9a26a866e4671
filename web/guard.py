"""Who may ask at all: the hosts this relay answers to, and no page of another origin."""

from collections.abc import Collection
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
    if _of_another_site(request, origins):
        raise RequestError(HTTPStatus.FORBIDDEN, "pages of this origin may not use this relay")
    return await handler(request)


def _of_another_site(request: Request, origins: Collection[str]) -> bool:
    """Whether a page asks that is not ours: it says so itself, or its browser does (W3C, Fetch Metadata).

    Without an Origin a page cannot read the answer, but could hold streams open that it shows as an image. A link that
    leads here is no such request. What is no browser says neither.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin.lower() not in {f"{request.scheme}://{request.host}".lower(), *origins}
    site = request.headers.get("Sec-Fetch-Site", "none")
    return site not in ("same-origin", "none") and request.headers.get("Sec-Fetch-Mode") != "navigate"


def _name(host: str) -> str:
    """The host without its port; an IPv6 address keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
