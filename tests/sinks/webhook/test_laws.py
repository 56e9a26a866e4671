"""The webhook sink keeps the laws of a sink, over HTTP and with every trouble that a receiver can make."""

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Self

from aiohttp.web import Application, AppRunner, Request, Response, SockSite

from relay.testing import check_sink
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY

CANARY = "canary-7Jq2"


class FarEnd:
    """A receiver at a port of its own, which makes the trouble that is wanted."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port: int = taken.getsockname()[1]
        self._bodies: list[bytes] = []
        self._attempts: list[tuple[str, bytes]] = []
        self._trouble = ""
        self._thawed = asyncio.Event()
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/{CANARY}"

    async def __aenter__(self) -> Self:
        app = Application()
        app.router.add_post("/{path:.*}", self._take)
        runner = AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await SockSite(runner, socket.create_server(("127.0.0.1", self._port))).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.back()
        await self._stack.aclose()

    async def _take(self, request: Request) -> Response:
        body = await request.read()
        self._attempts.append((request.headers["webhook-id"], body))
        if self._trouble == "frozen":
            await self._thawed.wait()
        if self._trouble == "down":
            return Response(status=503)
        self._bodies.append(body)
        if self._trouble == "half_closed":
            assert request.transport is not None
            request.transport.close()
        return Response(status=204)

    def written(self) -> bytes:
        return b"".join(body + b"\n" for body in self._bodies)

    def attempts(self) -> list[tuple[str, bytes]]:
        return list(self._attempts)

    def down(self) -> None:
        self._trouble = "down"

    def frozen(self) -> None:
        self._trouble = "frozen"
        self._thawed = asyncio.Event()

    def half_closed(self) -> None:
        self._trouble = "half_closed"

    def back(self) -> None:
        self._trouble = ""
        self._thawed.set()


def test_it_keeps_every_law_that_a_webhook_can() -> None:
    far_end = FarEnd()

    def make() -> WebhookSink:
        headers = {"Authorization": f"Bearer {CANARY}"}
        return WebhookSink(
            far_end.url, secret=KEY, allow_private=True, headers=headers, capacity=200, on_full="coalesce"
        )

    report = check_sink(make, far_end=far_end, canary=CANARY, target="127.0.0.1")

    # It has no levels, no close(), and nothing to wait for as it opens; its order is that of each job.
    missing = {"level", "ordered_across", "closed_twice", "enter_cancelled", "cancelled_work"}
    assert set(report.not_exercised) == missing
