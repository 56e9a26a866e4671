"""The page, and the files it is made of. No build step, no inline script."""

from importlib.resources import files
from pathlib import Path

from aiohttp.web import FileResponse, Request, StreamResponse

__all__ = ["STATIC", "page", "secure"]

STATIC = Path(str(files("web") / "static"))

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(_: Request) -> StreamResponse:
    """`GET /`: the jobs, with their progress and a live log."""
    return FileResponse(STATIC / "index.html")


async def secure(_: Request, response: StreamResponse) -> None:
    """What every response says: nothing is guessed, framed or run that is not ours; files are asked for anew."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-cache")
