"""The page and its files. No build step, no inline script."""

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp.web import Request, Response, StreamResponse
from msgspec import Struct

from web.middleware.problems import RequestError

__all__ = ["add_security_headers", "page", "set_security_headers", "static"]

STATIC: Final = Path(__file__).with_name("static")

_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _File(Struct, frozen=True):
    body: bytes
    content_type: str
    tag: str


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:32])


_FILES: Final = {path.name: _read(path) for path in STATIC.iterdir() if path.suffix in _TYPES}
"""By name, in memory: no name that a client sends reaches a file system, and no client keeps a file open."""


async def page(request: Request) -> StreamResponse:
    """`GET /`: the jobs, with their progress and a live log."""
    return _answer(request, _FILES["index.html"])


async def static(request: Request) -> StreamResponse:
    """`GET /static/{name}`: a file of the page."""
    try:
        return _answer(request, _FILES[request.match_info["name"]])
    except KeyError:
        raise RequestError(HTTPStatus.NOT_FOUND, "no file of the page has this name") from None


async def add_security_headers(_: Request, response: StreamResponse) -> None:
    """A signal of the application: see `set_security_headers`."""
    set_security_headers(response)


def set_security_headers(response: StreamResponse) -> None:
    """Set the default headers of every response: no sniffing, framing or foreign script, and no caching except of the
    files of the page."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")


def _answer(request: Request, file: _File) -> Response:
    """The file, which a cache may store and revalidates: 304 if its copy is current."""
    headers = {"Cache-Control": "no-cache", "ETag": f'"{file.tag}"'}
    if any(known.value in (file.tag, "*") for known in request.if_none_match or ()):
        return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)
