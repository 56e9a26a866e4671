"""Cookies: how they are read, and written behind the response of the request that makes them.

Measured in Chromium and Firefox: a cookie that is set on the response of an EventSource is sent when it reconnects; on
a page of another site only with `SameSite=None; Secure; Partitioned`, and with the page's `withCredentials`.
"""

from typing import Final, Literal, TypeAlias

from aiohttp.web import Request, RequestKey, StreamResponse

__all__ = ["add_cookies", "expire_cookie", "read_cookie", "read_cookies", "set_cookie"]

Site: TypeAlias = Literal["Strict", "cross-site"]

_COOKIES: Final = RequestKey("cookies", list[str])


def read_cookies(request: Request) -> list[tuple[str, str]]:
    """Every cookie of *request*, in the order in which they were sent; the oldest of one path comes first."""
    pairs = "; ".join(request.headers.getall("Cookie", ())).split(";")
    return [(name.strip(), value.strip()) for name, equals, value in (pair.partition("=") for pair in pairs) if equals]


def read_cookie(request: Request, name: str) -> str | None:
    """The value of the cookie *name*; empty if there are two of them, since one was set by somebody else."""
    values = [value for known, value in read_cookies(request) if known == name]
    if not values:
        return None
    return values[0] if len(values) == 1 else ""


def set_cookie(
    request: Request,
    name: str,
    value: str,
    *,
    path: str,
    secure: bool,
    seconds: int | None = None,
    site: Site = "Strict",
) -> None:
    """Let the response of *request* set a cookie that no script can read.

    Without *seconds* it lasts as long as the browser runs. A page of another site needs `secure`.
    """
    of_site = "SameSite=None; Partitioned" if site == "cross-site" else "SameSite=Strict"
    lasting = f"; Max-Age={seconds}" if seconds is not None else ""
    line = f"{name}={value}; Path={path}{lasting}; HttpOnly; {of_site}{'; Secure' if secure else ''}"
    request.setdefault(_COOKIES, []).append(line)


def expire_cookie(request: Request, name: str, *, path: str, secure: bool) -> None:
    """Let the response of *request* remove the cookie *name*."""
    set_cookie(request, name, "", path=path, secure=secure, seconds=0)


async def add_cookies(request: Request, response: StreamResponse) -> None:
    """A signal of the application: write the cookies of *request* into the head of its *response*."""
    for line in request.get(_COOKIES, ()):
        response.headers.add("Set-Cookie", line)
