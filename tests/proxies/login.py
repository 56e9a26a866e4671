"""A relay behind the documented proxies that name their users, and the login service that they consult."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp.web import Request, Response
from msgspec.structs import replace

from relay.cli.options import load_settings
from relay.config.access_settings import AccessSettings
from tests.proxies.proxies import PROXIES, SECRET, Change, Proxy, documented
from tests.proxies.site import Behind, behind
from tests.proxies.test_login import served

__all__ = ["ANN", "BOB", "EACH", "NOBODY", "SUBJECT", "LoginService", "logged_in"]

SUBJECT: Final = "proxy:ann@example.com"
"""Of the user whose session is ANN."""

PAGE: Final = "behind-an-authenticating-proxy.md"

EACH: Final = [
    pytest.param(
        replace(PROXIES[name], page=PAGE, heading=heading),
        id=name,
        marks=getattr(pytest.mark, name),
    )
    for name, heading in {"nginx": "nginx and oauth2-proxy", "caddy": "Caddy and oauth2-proxy"}.items()
]

ANN: Final = {"Cookie": "session=ann"}
BOB: Final = {"Cookie": "session=bob"}
NOBODY: Final = {"Cookie": "session=nobody"}
"""Of a session that the login service accepts, and names no user of."""


def documented_access(folder: Path) -> AccessSettings:
    """[access] of the page, with the secret of the tests."""
    file = folder / "relay.toml"
    file.write_text(documented("The relay", PAGE), encoding="utf-8")
    access = load_settings(file, {"RELAY_PROXY_SECRET": SECRET}).access
    assert access is not None
    return access


class LoginService:
    """What oauth2-proxy does with `/oauth2/auth`: 202 with the name of the user, or 401."""

    def __init__(self) -> None:
        self.sessions = {"ann": "ann@example.com", "bob": "bob@example.com", "nobody": ""}
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path != "/oauth2/auth":
            return Response(text="log in here", content_type="text/html")
        if (user := self.sessions.get(request.cookies.get("session", ""))) is None:
            return Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="login"'})
        return Response(status=202, headers={"X-Auth-Request-Email": user} if user else {})


@asynccontextmanager
async def logged_in(
    proxy: Proxy, folder: Path, also: Change = lambda block: block, **proxied: Any
) -> AsyncGenerator[tuple[Behind, LoginService]]:
    """A relay with the documented access, *proxied* by the documented proxy; `stranger` has no password to send.

    *also* is a change to the block of the proxy.
    """
    login, access = LoginService(), documented_access(folder)
    assert access.proxy is not None
    access = replace(access, proxy=replace(access.proxy, **proxied))
    async with served(login.answer) as port:

        def change(block: str) -> str:
            assert "127.0.0.1:4180" in block
            return also(block.replace("127.0.0.1:4180", f"127.0.0.1:{port}"))

        async with behind(proxy, folder, change, access=access, max_age=1.0 if proxied else 3_600.0) as house:
            yield house, login
