"""One client being served: what it is to hear, and the connection it hears it on."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11
from aiohttp.web import Request, StreamResponse

from relay.events import Exchange, Level
from relay.jobs import Job
from web.cursor import Opening
from web.fanout import Seat
from web.keys import FAN_OUT, OPTIONS, RELAY
from web.live import OpenStream
from web.sockets import tune
from web.telling import Telling
from web.wire import Wire

__all__ = ["Delivery"]

PENDING_EXCHANGES: Final = 100
RENEWAL_PAUSE: Final = 250
"""Milliseconds until a stream that was ended for its age comes back: nobody should see it."""


class Delivery:
    """Serves one stream: reads behind the client's cursor as fast as the client takes it, and no faster."""

    def __init__(
        self, request: Request, wire: Wire, jobs: Sequence[Job] | None, opening: Opening, level: Level
    ) -> None:
        """Await nothing between finding *opening* and this, so that all of what is told first is of one moment."""
        self._relay = request.app[RELAY]
        self._options = request.app[OPTIONS]
        self._fan_out = request.app[FAN_OUT]
        self._debug = self._options.debug and request.query.get("debug") == "1"
        self._request = request
        self._wire = wire
        self._jobs = jobs
        self._level: Level = level
        self._telling = Telling(self._relay, wire, jobs, opening, level=level)
        self._news = asyncio.Event()
        self._exchanges: list[Exchange] = []
        self.stream = OpenStream(peer=request.remote or "", wake=self._news.set, cut=self._cut)

    async def run(self, response: StreamResponse) -> None:
        """Serve until the story ends, the relay closes the stream, or the client leaves (ConnectionError)."""
        self._response = response
        tune(self._request)
        stop_debug = self._relay.bus.subscribe_exchanges(self._overhear) if self._debug else None
        try:
            await self._write(self._wire.heartbeat)
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
            if self._telling.ended:
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
        self._telling.told(seat.reached)
        if seat.slow:
            await self._drained()
        return seat.slow

    async def _catch_up(self, *, slow: bool) -> None:
        """Write all that is behind the cursor, a page at a time; other clients have their turn between two pages."""
        while True:
            self._transport()
            page = self._telling.take(slow=slow)
            for exchange in self._overheard():
                page += self._notice("exchange", exchange)
            if not page:
                return
            await self._write(page)
            await asyncio.sleep(0)

    def _overhear(self, exchange: Exchange) -> None:
        if self._jobs is None or not {job.id for job in self._jobs}.isdisjoint(exchange.jobs):
            del self._exchanges[: -PENDING_EXCHANGES + 1]
            self._exchanges.append(exchange)
            self._news.set()

    def _overheard(self) -> Iterator[dict[str, Any]]:
        exchanges, self._exchanges = self._exchanges, []
        for exchange in exchanges:
            yield msgspec.to_builtins(exchange)

    def _notice(self, event: str, data: dict[str, Any], **options: int) -> bytes:
        return self._wire.notice(event, data, self._telling.position, **options)

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
