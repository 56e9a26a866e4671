"""What may lie between a browser and the relay: a line that breaks, a proxy that refuses, repeats or holds back."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout
from aiohttp.web import Application as Web
from aiohttp.web import AppRunner, Request, Response, StreamResponse, TCPSite

from tests.browser.house import House

__all__ = ["Proxy", "open_proxy"]

SHOP = """<!doctype html><html lang="en"><title>Somebody else's page</title>
<script type="module" src="/static/relay.js"></script><body><main></main></body></html>"""

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"


class Proxy:
    """A reverse proxy on a port of its own. It logs streams, and refuses, repeats, holds back, stalls or cuts them."""

    def __init__(self, house: House, client: ClientSession) -> None:
        self.house = house
        self.port = 0
        self.mode: Literal["pass", "twice", "mute", "stall"] = "pass"
        self.refusals: deque[tuple[int, dict[str, str]]] = deque()
        self.instead: deque[bytes] = deque()
        self.resumed: list[str | None] = []
        self.policy = POLICY
        self.requests: list[Request] = []
        self.login: str | None = None
        """Where requests of the relay's interface are sent, once the login at the proxy has expired."""
        self.files: dict[str, str] = {}
        """Scripts by their path, in place of the relay's own."""
        self._client = client
        app = Web()
        app.router.add_get("/shop", self._shop)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        self._site: TCPSite | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Let connections in; again on the same port after `cut`."""
        if self._runner.server is None:
            await self._runner.setup()
        self._site = TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def cut(self, *, refuse: bool = True) -> None:
        """Reset every connection and, with *refuse*, take no other until `start`."""
        if refuse and self._site is not None:
            await self._site.stop()
        # Idle ones, too: the browser would send its next request on one of them.
        for handler in self._runner.server.connections if self._runner.server is not None else ():
            if handler.transport is not None:
                handler.transport.abort()

    async def close(self) -> None:
        await self.cut()
        await self._runner.cleanup()

    async def _shop(self, _: Request) -> Response:
        return Response(text=SHOP, content_type="text/html", headers={"Content-Security-Policy": self.policy})

    async def _forward(self, request: Request) -> StreamResponse:
        self.requests.append(request)
        if request.path in self.files:
            return Response(text=self.files[request.path], content_type="text/javascript")
        if self.login is not None and request.path.startswith("/v1/"):
            return Response(status=302, headers={"Location": self.login})
        if "text/event-stream" in request.headers.get("Accept", ""):
            self.resumed.append(request.headers.get("Last-Event-ID"))
            if self.refusals:
                status, headers = self.refusals.popleft()
                return Response(status=status, headers=headers, text="not the relay")
            if self.instead:
                return Response(body=self.instead.popleft(), content_type="text/event-stream")
        return await self._pass_on(request)

    async def _pass_on(self, request: Request) -> StreamResponse:
        url = self.house.server.url.rstrip("/") + request.path_qs
        try:
            async with self._client.request(
                request.method, url, headers=request.headers, data=await request.read(), allow_redirects=False
            ) as answer:
                response = StreamResponse(status=answer.status)
                for name in ("Content-Type", "Content-Security-Policy", "Relay-Heartbeat"):
                    if name in answer.headers:
                        response.headers[name] = answer.headers[name]
                stream = answer.content_type == "text/event-stream"
                if stream and self.mode == "mute":
                    # Until the response ends, which a stream does not; or the client has enough of it.
                    await answer.read()
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk * 2 if stream and self.mode == "twice" else chunk)
                    if stream and self.mode == "stall":
                        await asyncio.Event().wait()
                return response
        except ClientConnectionError:
            return Response(status=502, text="the proxy has lost its server")


@asynccontextmanager
async def open_proxy(house: House) -> AsyncGenerator[Proxy]:
    """A proxy in front of *house*."""
    async with ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False) as client:
        proxy = Proxy(house, client)
        await proxy.start()
        try:
            yield proxy
        finally:
            with suppress(asyncio.CancelledError):
                await proxy.close()
