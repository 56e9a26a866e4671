"""One client being served: what it is to hear, and the connection it hears it on."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from aiohttp.web import Request, StreamResponse

from relay.events import Exchange, Level, Position
from relay.jobs import Job
from web.cursor import Opening, resumed_at
from web.fanout import Group
from web.keys import FAN_OUT, OPTIONS, RELAY, STREAMS
from web.links import HandlerLink, Link, Writer
from web.live import OpenStream
from web.sockets import tune
from web.takeover import can_be_taken_over, take_over
from web.telling import Telling
from web.wire import Wire

__all__ = ["Delivery"]

PENDING_EXCHANGES: Final = 100
RENEWAL_PAUSE: Final = 250
"""Milliseconds until a stream that was ended for its age comes back: nobody should see it."""


class Delivery(OpenStream):
    """Serves one stream: reads behind the client's cursor as fast as the client takes it, and no faster.

    Most of its life it is up to date, and only has a seat among others: it hears of *slow* when the kernel did not take
    all that was written there, and of *reached*, the offset of the last record that was. What it needs for telling the
    client anything else is made when that happens.
    """

    __slots__ = (
        "_app",
        "_group",
        "_jobs",
        "_level",
        "_overheard",
        "_telling",
        "_wire",
        "link",
        "reached",
        "slow",
        "writer",
    )

    def __init__(
        self, request: Request, wire: Wire, jobs: Sequence[Job] | None, opening: Opening, level: Level
    ) -> None:
        """Await nothing between finding *opening* and this, so that all of what is told first is of one moment."""
        super().__init__(request.remote or "")
        self._app = request.app
        self._wire = wire
        self._jobs = jobs
        self._level: Level = level
        self._telling: Telling | None = self._tell(opening)
        self._group: Group | None = None
        debug = self._app[OPTIONS].debug and request.query.get("debug") == "1"
        self._overheard = _Overheard(jobs, self.wake) if debug else None
        self.reached = 0
        self.slow = False

    def may_be_taken(self, request: Request) -> bool:
        """Whether this stream is to be taken out of aiohttp's hands, once it is up to date.

        A story that has ended is told by aiohttp, which keeps the connection for the next request.
        """
        if not self._app[OPTIONS].take_over or self._overheard is not None:
            return False
        bus = self._app[RELAY].bus
        live = self._jobs is None or not all(bus.as_told(job).ended for job in self._jobs)
        return live and can_be_taken_over(request)

    async def run(self, request: Request, response: StreamResponse, *, take: bool) -> None:
        """Serve until the story ends, the relay closes the stream, the client leaves, or, with *take*, it is taken.

        A stream that is taken goes on by itself: the handler has to return *response*, and is done.
        """
        send_timeout = self._app[OPTIONS].send_timeout
        link = HandlerLink(request, response, self, send_timeout)
        self.link: Link = link
        if request.transport is not None:
            tune(request.transport)
        self._app[STREAMS].add(self)
        stop_debug = None
        if self._overheard is not None:
            stop_debug = self._app[RELAY].bus.subscribe_exchanges(self._overheard)
        taken = None
        try:
            over = await self._catch_up(self._wire.heartbeat)
            while not over:
                if take and (taken := take_over(request, self, send_timeout)):
                    self.link = taken
                    return self._sit()
                self._sit()
                await link.news.wait()
                link.news.clear()
                over = await self._catch_up()
        finally:
            if stop_debug is not None:
                stop_debug()
            if taken is None:
                self.end()

    async def serve(self) -> bool:
        """Bring the client up to date and give it a seat again. Returns whether there is no need to: it is over."""
        if await self._catch_up():
            return True
        self._sit()
        return False

    def close(self) -> None:
        self.closing = True
        if self._group is not None:
            self._group.flush()
            if self.link.finish(self._bye(self._group.position)):
                return
        self.wake()

    def finish(self) -> None:
        """The story is over, and the client was written all of it."""
        if not self.link.finish():
            self.wake()

    def wake(self) -> None:
        self.link.wake()

    def cut(self) -> None:
        self.link.cut()

    def end(self) -> None:
        if self._group is not None:
            self._group.leave(self)
            self._group = None
        self._telling = None
        self._app[STREAMS].remove(self)

    async def _catch_up(self, lead: bytes = b"") -> bool:
        """Write *lead* and all that is behind the cursor; others have their turn between two pages.

        Who has not caught up when patience ends is slow; for a moment, a burst puts anybody behind.
        Returns whether the stream is over. Await nothing between that and taking a seat, or a record falls in between.
        """
        clock = asyncio.get_running_loop().time
        patience_ends = clock() + self._app[OPTIONS].slow_after if self.slow else math.inf
        telling = self._rise()
        if self.slow:
            await self.link.drained()
        page = lead + self._next(telling, slow=clock() >= patience_ends)
        while page:
            await self.link.send(page)
            if page := self._next(telling, slow=clock() >= patience_ends):
                await asyncio.sleep(0)
        if telling.ended:
            return True
        last = None
        if self.closing:
            last = self._bye(telling.position)
        elif clock() >= self.expires:
            why = {"reason": "this stream is renewed"}
            last = self._wire.notice("bye", why, telling.position, retry=RENEWAL_PAUSE)
        if last is not None:
            await self.link.send(last)
        return last is not None

    def _sit(self) -> None:
        """Be up to date together with others, until there is something to do for this client alone."""
        self.slow = False
        self.writer: Writer = self.link.writer
        self._group = self._app[FAN_OUT].seat(self, self._wire, self._level, self._jobs, chunked=self.link.chunked)
        self._jobs = self._group.jobs

    def _rise(self) -> Telling:
        """Leave the seat, if it has one, and go on alone from where that has got to."""
        if self._group is not None:
            self._group.leave(self)
            self._group = None
        telling, self._telling = self._telling, None
        if telling is not None:
            return telling
        opening = resumed_at(self._app[RELAY].bus, self._jobs, self.reached)
        return self._tell(opening, caught_up=True)

    def _tell(self, opening: Opening, *, caught_up: bool = False) -> Telling:
        relay, encode = self._app[RELAY], self._app[FAN_OUT].pages(self._wire)
        return Telling(relay, self._wire, self._jobs, opening, level=self._level, caught_up=caught_up, encode=encode)

    def _bye(self, position: Position) -> bytes:
        return self._wire.notice("bye", {"reason": "the relay is shutting down"}, position)

    def _next(self, telling: Telling, *, slow: bool) -> bytes:
        page = telling.take(slow=slow)
        if self._overheard is not None:
            for exchange in self._overheard.take():
                page += self._wire.notice("exchange", exchange, telling.position)
        return page


class _Overheard:
    """Raw exchanges about some jobs, or all, that one client is still to be told of."""

    def __init__(self, jobs: Sequence[Job] | None, wake: Callable[[], None]) -> None:
        self._jobs = None if jobs is None else {job.id for job in jobs}
        self._wake = wake
        self._exchanges: deque[Exchange] = deque(maxlen=PENDING_EXCHANGES)

    def __call__(self, exchange: Exchange) -> None:
        if self._jobs is None or not self._jobs.isdisjoint(exchange.jobs):
            self._exchanges.append(exchange)
            self._wake()

    def take(self) -> Iterator[dict[str, Any]]:
        while self._exchanges:
            yield msgspec.to_builtins(self._exchanges.popleft())
