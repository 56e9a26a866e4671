"""One client being served: what it is to hear, and the connection it hears it on."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11
from aiohttp.web import Request, StreamResponse

from relay.events import Exchange, Level, Position
from relay.jobs import Job
from sinks.sse import SseSink
from web.cursor import Opening, open_at, still_to_end
from web.fanout import Seat
from web.keys import FAN_OUT, OPTIONS, RELAY
from web.live import OpenStream
from web.sockets import tune
from web.wire import Wire

__all__ = ["Delivery"]

PENDING_EXCHANGES: Final = 100
SNAPSHOT_JOBS: Final = 100
TEXT_BYTES: Final = 256
RENEWAL_PAUSE: Final = 250
"""Milliseconds until a stream that was ended for its age comes back: nobody should see it."""


class Delivery:
    """Serves one stream: reads behind the client's cursor as fast as the client takes it, and no faster."""

    def __init__(
        self,
        request: Request,
        response: StreamResponse,
        wire: Wire,
        jobs: Sequence[Job] | None,
        opening: Opening,
        level: Level,
    ) -> None:
        self._relay = request.app[RELAY]
        self._options = request.app[OPTIONS]
        self._fan_out = request.app[FAN_OUT]
        self._debug = self._options.debug and request.query.get("debug") == "1"
        self._request = request
        self._response = response
        self._wire = wire
        self._jobs = jobs
        self._ids = None if jobs is None else [job.id for job in jobs]
        self._opening = opening
        self._level: Level = level
        self._news = asyncio.Event()
        self._exchanges: list[Exchange] = []
        self.stream = OpenStream(peer=request.remote or "", wake=self._news.set, cut=self._cut)
        self._reader = SseSink(
            lambda after: self._relay.journal.read(after, self._ids),
            self._news.set,
            after=opening.after,
            level=level,
            until=opening.until,
            encode=wire.record,
        )

    async def run(self) -> None:
        """Serve until the story ends, the relay closes the stream, or the client leaves (ConnectionError)."""
        tune(self._request)
        stop_debug = self._relay.bus.subscribe_exchanges(self._overhear) if self._debug else None
        try:
            await self._write(self._wire.heartbeat)
            for notice in self._preamble():
                await self._write(notice)
            await self._follow()
        finally:
            if stop_debug is not None:
                stop_debug()

    async def _follow(self) -> None:
        now = asyncio.get_running_loop().time
        expires = now() + self._options.max_age * random.uniform(0.8, 1.2)  # noqa: S311
        slow = False
        while True:
            self._news.clear()
            await self._catch_up(slow=slow)
            if self._reader.ended:
                return
            if self.stream.closing:
                return await self._write(self._notice("bye", {"reason": "the relay is shutting down"}))
            if now() >= expires:
                renewal = self._notice("bye", {"reason": "this stream is renewed"}, retry=RENEWAL_PAUSE)
                return await self._write(renewal)
            slow = await self._sit(until=expires)

    async def _sit(self, *, until: float) -> bool:
        """Be up to date together with others, until there is something to do for this client alone.

        Returns whether the client has turned out to be too slow for that; then what it was sent is on its way.
        """
        seat = Seat(self._transport(), chunked=self._request.version >= HttpVersion11, call_away=self._news.set)
        with self._fan_out.seated(seat, self._wire, self._level, self._jobs):
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                pass
        if seat.reached > self._reader.cursor:
            until_end = still_to_end(self._relay.journal, self._jobs, seat.reached)
            self._reader.restart(after=seat.reached, until=until_end)
        if seat.slow:
            await self._drained()
        return seat.slow

    async def _catch_up(self, *, slow: bool) -> None:
        """Write all that is behind the cursor, a page at a time; other clients have their turn between two pages."""
        while True:
            self._transport()
            for notice in self._fell_behind():
                await self._write(notice)
            page = self._reader.take(slow=slow)
            if self._reader.skipped:
                page += self._notice("skipped", {"missed": self._reader.skipped})
            for exchange in self._overheard():
                page += self._notice("exchange", exchange)
            if not page:
                return
            await self._write(page)
            await asyncio.sleep(0)

    def _preamble(self) -> Iterator[bytes]:
        """What is said instead of records: what is missing, and where the jobs stand."""
        if (gap := self._opening.gap) is not None:
            yield self._notice("gap", {"from": gap.start, "to": gap.to, "missed": gap.missed})
        if self._opening.snapshot:
            jobs = self._relay.jobs() if self._jobs is None else self._jobs
            for start in range(0, max(len(jobs), 1), SNAPSHOT_JOBS):
                yield self._notice("snapshot", {"jobs": [_brief(job) for job in jobs[start : start + SNAPSHOT_JOBS]]})

    def _fell_behind(self) -> Iterator[bytes]:
        """A client so slow that the journal forgot what comes next is told so, and goes on from now."""
        journal = self._relay.journal
        if not journal.complete(self._reader.cursor, self._ids):
            self._opening = open_at(journal, self._jobs, str(Position(journal.epoch, self._reader.cursor)))
            self._reader.restart(after=self._opening.after, until=self._opening.until)
            yield from self._preamble()

    def _overhear(self, exchange: Exchange) -> None:
        if self._ids is None or not set(self._ids).isdisjoint(exchange.jobs):
            del self._exchanges[: -PENDING_EXCHANGES + 1]
            self._exchanges.append(exchange)
            self._news.set()

    def _overheard(self) -> Iterator[dict[str, Any]]:
        exchanges, self._exchanges = self._exchanges, []
        for exchange in exchanges:
            yield msgspec.to_builtins(exchange)

    def _notice(self, event: str, data: dict[str, Any], **options: int) -> bytes:
        return self._wire.notice(event, data, Position(self._relay.journal.epoch, self._reader.cursor), **options)

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionError("the client has left")
        return transport

    async def _write(self, data: bytes) -> None:
        await self._response.write(data)
        await self._drained()

    async def _drained(self) -> None:
        """Return when the kernel has taken all that was written. Raises ConnectionError where it takes too long."""
        try:
            async with asyncio.timeout(self._options.send_timeout):
                await self._request.writer.drain()
        except TimeoutError:
            self._cut()
            raise ConnectionError("the client takes nothing") from None

    def _cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def _brief(job: Job) -> dict[str, Any]:
    """A job's snapshot in less than 1 kB, however much it has to say; `GET /v1/jobs/{job}` has the whole."""
    state = msgspec.to_builtins(job.snapshot())
    text, terminal = state["text"], job.state.terminal
    while len(json.dumps(text)) > TEXT_BYTES:
        text = text[: len(text) * 3 // 4]
    return {**state, "text": text, "terminal": terminal.type if terminal is not None else None}
