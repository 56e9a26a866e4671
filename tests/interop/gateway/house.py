"""A relay with its gateway, as production runs it, between a scripted upstream and a client that is not changed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp.web import AppRunner, Request, Response, TCPSite
from msgspec import Struct

from relay import Job, Relay
from relay.config.settings import GatewaySettings
from relay.events import Level
from relay.testing import ManualClock, ScriptedUpstream
from relay.testing.scripted.openai_videos import ScriptedOpenAIVideos
from relay.upstreams import OpenAIVideos, Sora
from tests.interop.gateway.program import Programs
from tests.interop.gateway.proxy import Proxy, proxy
from web import create_app

__all__ = ["House", "Refusing", "gateway"]

T = TypeVar("T")

Scripted = ScriptedUpstream | ScriptedOpenAIVideos

INTERVAL = 2.5


class House(Struct):
    """All parts of one test. *url* is the base address for clients, in which *proxy* stands before the relay."""

    relay: Relay
    upstream: Scripted
    clock: ManualClock
    proxy: Proxy
    url: str
    runner: AppRunner
    programs: Programs

    @property
    def submits(self) -> int:
        """The number of requests to create a task that reached the upstream."""
        return self.upstream.requests["nf/create"] + self.upstream.requests["POST /videos"]

    @property
    def job(self) -> Job:
        """The only job there is."""
        (job,) = self.relay.jobs()
        return job

    def lines(self, level: Level = "info") -> list[str]:
        """The text of each record of the job, as its own line: what a client is to read."""
        return [f"{record.event.text}\n" for record in self.relay.journal.read(0, limit=10_000, level=level)]

    async def perform(self, program: str, do: str, prompt: str, **options: Any) -> dict[str, Any]:
        """What the client of *program* delivers for a request about *prompt*."""
        return await self.programs.perform(program, {"do": do, "base_url": self.url, "prompt": prompt, **options})

    async def play(self, client: Awaitable[T], *, until: Callable[[], Awaitable[None]] | None = None) -> T:
        """What *client* returns, while the upstream is polled once after each heartbeat that passes.

        *until* waits for something else than a heartbeat.
        """
        reading = asyncio.ensure_future(client)
        try:
            while not reading.done():
                passed = asyncio.ensure_future((until or self.proxy.heartbeat)())
                await asyncio.wait({reading, passed}, return_when=asyncio.FIRST_COMPLETED)
                passed.cancel()
                await asyncio.gather(passed, return_exceptions=True)
                await self.clock.advance(INTERVAL)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return reading.result()

    async def shut_down(self) -> None:
        """End the relay as a deployment does, with a goodbye to every stream."""
        await self.runner.cleanup()


class Refusing(ScriptedUpstream):
    """Answers each request to create a task with one status."""

    def __init__(self, status: int, *, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._status = status

    async def _take(self, request: Request) -> Response:
        return Response(status=self._status, text="{}", content_type="application/json", headers={"Retry-After": "1"})


@asynccontextmanager
async def gateway(
    programs: Programs,
    *,
    upstream: Scripted | None = None,
    adapter: type[Sora | OpenAIVideos] = Sora,
    clock: ManualClock | None = None,
    token: str | None = None,
    deadline: float = 1_500.0,
    settings: GatewaySettings | None = None,
    **options: Any,
) -> AsyncGenerator[House]:
    """A house whose clock moves by itself unless one is given. *token* is used if it is not to be the right one.

    No reader is slow unless *options* of the application say otherwise: a healthy client may have no turn for seconds.
    """
    clock = clock or ManualClock(auto=True)
    async with upstream or ScriptedUpstream(clock=clock) as upstream:
        account = adapter(upstream.url, token or upstream.token, interval=INTERVAL, deadline=deadline, clock=clock)
        relay = Relay([account], clock=clock)
        app = create_app(relay, gateway=settings, **{"send_timeout": 3_600, "slow_after": 3_600, **options})
        runner = AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await TCPSite(runner, "127.0.0.1", 0).start()
            async with proxy(runner.addresses[0][1]) as (middle, url):
                yield House(relay, upstream, clock, middle, f"{url}/v1", runner, programs)
        finally:
            await runner.cleanup()
