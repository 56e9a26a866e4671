"""A server of a key set, on loopback, whose answers a test chooses."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any

from aiohttp import web

__all__ = ["KeyServer", "serve_keys"]


class KeyServer:
    """Answers with *body* and *status*, once *gate* is set. Each request sets *asked*, and *requests* has its path."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        self.asked.set()
        body, status, headers = self.body, self.status, dict(self.headers)
        await self.gate.wait()
        return web.Response(body=body, status=status, headers=headers)


@asynccontextmanager
async def serve_keys(body: bytes, ssl_context: SSLContext | None = None) -> AsyncGenerator[KeyServer]:
    """A server that has begun to answer with *body*."""
    server = KeyServer(body)
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner: Any = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        scheme = "http" if ssl_context is None else "https"
        server.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/keys?p=policy"
        yield server
    finally:
        server.gate.set()
        await runner.cleanup()
