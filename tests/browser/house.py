"""The whole relay on loopback, as an operator runs it, for a real browser to look at."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp.web import Application, AppRunner, TCPSite
from msgspec import Struct

from relay import Job, Relay
from relay.journal import MemoryJournal, Retention, SqliteJournal
from relay.testing import ManualClock, Moment, Scenario, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink
from web import create_app

__all__ = ["HOSTILE", "REASON", "House", "Line", "Server", "life", "open_house"]

REASON = (
    "<img src=x onerror=\"document.title='owned'\">\r\n\x1b[31mred\x1b]52;c;eA==\x07 \u202egnp.exe\u202c & <b>bold</b>"
)

HOSTILE = Scenario(
    "hostile",
    "fails with a reason that wants to be markup, a second line, a terminal's command and another reading direction",
    ((0.0, Moment(progress=0.3)), (10.0, Moment(where="drafts", kind="sora_error", has_url=False, reason=REASON))),
)


class Line(NamedTuple):
    """A record as it is shown."""

    job: str
    seq: int
    text: str


class Server:
    """The relay's application behind a port: can be stopped and started again there, while the relay goes on."""

    app: Application

    def __init__(self, relay: Relay, prefix: str = "") -> None:
        self.relay = relay
        self.port = 0
        self.heartbeat = 15.0
        self.options: dict[str, Any] = {}
        """Further options of `create_app`, from the next start on."""
        self._prefix = prefix
        self._runner: AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._prefix}/"

    async def start(self) -> None:
        app = self.app = create_app(self.relay, heartbeat=self.heartbeat, **self.options)
        if self._prefix:
            app = Application()
            app.add_subapp(self._prefix, self.app)
        self._runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


class House(Struct):
    """A running relay with its console, its upstream, their common clock, and its server."""

    relay: Relay
    upstream: ScriptedUpstream
    clock: ManualClock
    console: ConsoleSink
    out: io.StringIO
    server: Server
    over: bool = False
    """Whether it is about to close for good, so that a page which is still open finds nobody."""

    def play(self, *scenarios: str | Scenario, owner: str = "") -> list[Job]:
        """Follow a new task of each of *scenarios*, as jobs of *owner*."""
        tasks = map(self.upstream.add_task, scenarios)
        return [self.relay.follow("sora", task, owner=owner) for task in tasks]

    async def ended(self) -> None:
        """Return when every job has its terminal record. The clock must move by itself."""
        done = asyncio.Event()

        def look(_: object) -> None:
            if all(job.ended for job in self.relay.jobs()):
                done.set()

        with self.relay.bus.subscribe(look):
            look(None)
            await done.wait()

    async def printed(self) -> list[Line]:
        """What the console has printed so far."""
        await asyncio.to_thread(self.console.close)
        records = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [Line(record["job"], record["seq"], record["text"]) for record in records]


@asynccontextmanager
async def open_house(
    *, auto: bool = False, prefix: str = "", keep: Retention | None = None, **options: Any
) -> AsyncGenerator[House]:
    """A house whose clock stands still until it is moved, or which moves by itself with *auto*.

    *options* are further ones of `create_app`.
    """
    clock = ManualClock(auto=auto)
    out = io.StringIO()
    console = ConsoleSink(out, format="json")
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        async with Relay([sora], sinks=[console], clock=clock, journal=MemoryJournal(keep)) as relay:
            server = Server(relay, prefix)
            server.options = options
            await server.start()
            house = House(relay, upstream, clock, console, out, server)
            try:
                yield house
            finally:
                house.over = True
                await server.stop()


@asynccontextmanager
async def life(house: House, journal: Path) -> AsyncGenerator[Relay]:
    """One life of a relay that has a journal, always on the port of the house, whose own relay is not served."""
    sora = Sora(house.upstream.url, house.upstream.token, clock=house.clock)
    await house.server.stop()
    async with Relay([sora], clock=house.clock, journal=SqliteJournal(journal)) as relay:
        house.server.relay = relay
        await house.server.start()
        yield relay
        await house.server.stop()
