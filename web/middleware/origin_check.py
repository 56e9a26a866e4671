"""Refuses requests for foreign host names, and requests of pages of other origins."""

from collections.abc import Collection
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from aiohttp.web import Request, StreamResponse, middleware

from web.app_keys import OPTIONS
from web.middleware.problems import Handler, RequestError

__all__ = ["ANY_HOST", "LOCAL_HOSTS", "check_host_and_origin", "check_origin", "normal_host", "page_origin"]

ANY_HOST: Final = "*"

KNOWN: Final = 64
"""How many short host names are remembered: clients name the few that the relay has."""

SHORT: Final = 256

LOCAL_HOSTS: Final = "<local>"
"""Stands for all names that no site of the public DNS can own; other software lists exceptions to its proxy so."""


@middleware
async def check_origin(request: Request, handler: Handler) -> StreamResponse:
    """Refuse a foreign host name (DNS rebinding), and a request of another site's page (CSRF)."""
    check_host_and_origin(request)
    return await handler(request)


def check_host_and_origin(request: Request) -> None:
    """Raises RequestError for what `check_origin` refuses."""
    options = request.app[OPTIONS]
    host = _named_host(request)
    if host is None or not _answers_to(host, options.hosts):
        raise RequestError(HTTPStatus.MISDIRECTED_REQUEST, _NOT_OURS if options.hosts is not None else _NOT_NAMED)
    if _of_another_site(request, host, options.origins):
        raise RequestError(HTTPStatus.FORBIDDEN, "pages of this origin may not use this relay")


_NOT_OURS: Final = "this relay does not answer to that host name"
_NOT_NAMED: Final = f"{_NOT_OURS}; the application names those it answers to with `hosts` of create_app"


def _named_host(request: Request) -> str | None:
    """The host that *request* names, with its port; empty if it names none, and None if it names two.

    [spec] RFC 9112, 3.2.2: with `GET http://host/ HTTP/1.1` the target counts and not the Host header, which is to
    be the same. If it is not, a proxy in front may have judged the other one.
    """
    # aiohttp fills in a host of its own for a request that names none.
    header = request.headers.get("Host", "")
    if request.raw_path.startswith(("/", "*")):
        return request.host if header else ""
    target = f"[{request.host}]" if ":" in request.host else request.host
    return header or target if normal_host(header or target) == normal_host(target) else None


def normal_host(host: str) -> str:
    """The name in a Host header: without port and trailing dot, an address in its canonical form."""
    return _normal(host) if len(host) <= SHORT else _normal.__wrapped__(host)


@lru_cache(KNOWN)
def _normal(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    if not (colon and (port.isdecimal() or not port)):
        name = host.strip().lower()
    address = _address(name)
    return address if address is not None else name.removesuffix(".")


def _answers_to(host: str, hosts: Collection[str] | None) -> bool:
    """Whether the relay answers to *host*. Every browser names a host; a client that names none is no browser.

    Without *hosts*, or with LOCAL_HOSTS among them, the relay answers to names that no site of the public DNS can own.
    """
    name = normal_host(host)
    if not name or (hosts is not None and (ANY_HOST in hosts or name in hosts)):
        return True
    if hosts is not None and LOCAL_HOSTS not in hosts:
        return False
    return _is_local(name) if len(name) <= SHORT else _is_local.__wrapped__(name)


@lru_cache(KNOWN)
def _is_local(name: str) -> bool:
    """Whether *name* is an address, a name without a dot, such as that of a container, or one below `localhost`."""
    return "." not in name or name.endswith(".localhost") or _address(name) is not None


def _address(name: str) -> str | None:
    """*name* as an IP address, IPv6 in brackets; None if it is no address."""
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ip_address(name[1:-1] if bracketed else name)
    except ValueError:
        return None
    if (address.version == 6) is not bracketed:
        return None
    return f"[{address.compressed}]" if bracketed else address.compressed


def _of_another_site(request: Request, host: str, origins: Collection[str]) -> bool:
    """Whether a page of another site sent the request, by its Origin or by Sec-Fetch-Site (W3C, Fetch Metadata).

    Without an Origin a page cannot read the response, but could keep streams open by showing them as images. Following
    a link to the relay is allowed, submitting a form to it is not. Clients other than browsers send neither header.
    """
    origin = page_origin(request)
    if origin is not None:
        return origin not in {f"{request.scheme}://{host}".lower(), *origins}
    site = request.headers.get("Sec-Fetch-Site", "none")
    followed = request.method in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return site not in ("same-origin", "none") and not followed


def page_origin(request: Request) -> str | None:
    """The origin of the page that sent *request*, None if no page did. Raises RequestError (400) if it has two."""
    named = request.headers.getall("Origin", ())
    if len(named) > 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "send one Origin")
    return named[0] if named else None
