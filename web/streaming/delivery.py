"""One client being served: the content of its stream, and the connection that carries it."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiohttp.web import Request, StreamResponse

from relay import Exchange, Position
from relay.events import LEVELS, Level
from sinks.sse import PAGE_BYTES
from web.access.access import ACCESS
from web.access.addresses import client_of
from web.access.guard import GUARD
from web.app_keys import OPTIONS, RELAY
from web.streaming.connections import HandlerConnection, StreamConnection, Writer
from web.streaming.content import StreamContent
from web.streaming.fanout import Group
from web.streaming.keys import FAN_OUT, STREAMS, TURNS, WAITS
from web.streaming.patience import Patience
from web.streaming.registry import OpenStream, StreamState
from web.streaming.resume import StreamStart, resume_stream
from web.streaming.selection import Selection
from web.streaming.sockets import tune
from web.streaming.takeover import StreamHead, can_be_taken_over, take_over
from web.streaming.wire import Wire

__all__ = ["StreamSession", "serve_stream"]

PENDING_EXCHANGES: Final = 100
RENEWAL_PAUSE: Final = 250
"""Milliseconds until a client reconnects whose stream was ended for its age: no user should notice."""


class StreamSession(OpenStream):
    """Serves one stream: reads behind the client's cursor as fast as the client receives it, and no faster.

    Most of its life it is up to date and a member of a group, which sets *slow* once the kernel does not accept
    everything, and *reached*, the position of the last record that was written. The content for the client alone is
    made when it is needed, and released after that. *complete* is set once the end of every job has been written.
    """

    __slots__ = (
        "_app",
        "_content",
        "_exchanges",
        "_group",
        "_level",
        "_on_end",
        "_selection",
        "_wire",
        "complete",
        "connection",
        "reached",
        "slow",
        "writer",
    )

    def __init__(
        self,
        request: Request,
        wire: Wire,
        start: StreamStart,
        level: Level,
        *,
        exchanges: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Await nothing between making *start* and this, so that snapshot and position are of the same moment.

        *exchanges*: whether raw exchanges are sent as well, if the application and the access allow it. *on_end* is
        called once when the stream is over, for whatever reason.
        """
        super().__init__(client_of(request), request[ACCESS], request.app[GUARD].now)
        self._app = request.app
        self._wire = wire
        self._selection = start.selection
        self._level: Level = level
        self._content: StreamContent | None = self._content_from(start)
        self._group: Group | None = None
        debug = exchanges and self._app[OPTIONS].debug and self.access.allows("operate")
        self._exchanges = _PendingExchanges(start.selection, self.wake) if debug else None
        self._on_end = on_end
        self.complete: bool = False
        self.reached: Position = start.known
        self.slow: bool = False

    def may_be_taken_over(self, request: Request) -> bool:
        """Whether the relay is to take over this stream's connection from aiohttp, once it is up to date.

        Jobs that have ended are served by aiohttp, which keeps the connection open for the next request.
        """
        if not self._app[OPTIONS].take_over or self._exchanges is not None:
            return False
        live = self._selection.jobs is None or not all(job.ended for job in self._selection.jobs)
        return live and can_be_taken_over(request)

    async def run(self, request: Request, response: StreamResponse, *, follow: bool, take: bool) -> None:
        """Serve until the jobs end, the relay closes the stream, the client leaves, or, with *take*, the takeover.

        Without *follow*, serve until the client has caught up. After a takeover the stream continues by itself: the
        handler has to return *response*, and is done.
        """
        waits = self._app[WAITS]
        connection = HandlerConnection(request, response, self, waits)
        self.connection: StreamConnection = connection
        if request.transport is not None:
            tune(request.transport)
        if self._app[GUARD].has_ended(request, self.access):
            self.withdraw()
        self._app[STREAMS].add(self)
        stop_debug = None
        if self._exchanges is not None:
            stop_debug = self._app[RELAY].bus.subscribe_exchanges(self._exchanges)
        taken = None
        try:
            over = await self._catch_up(opens=True, follow=follow)
            while not over:
                if take and (taken := take_over(request, self, waits)):
                    self.connection = taken
                    return self._join_group()
                self._join_group()
                await connection.news.wait()
                connection.news.clear()
                over = await self._catch_up()
        finally:
            if stop_debug is not None:
                stop_debug()
            if taken is None:
                self.end()

    async def serve(self) -> bool:
        """Bring the client up to date and join a group again. Returns whether the stream is over instead."""
        if await self._catch_up():
            return True
        self._join_group()
        return False

    @property
    def state(self) -> StreamState:
        if self.slow:
            return "slow"
        return "catching-up" if self._group is None else "live"

    def close(self) -> None:
        self.closing = True
        if self._group is not None:
            self._group.flush()
            if self.connection.finish(self._bye(self._group.position)):
                return
        self.wake()

    def finish(self) -> None:
        """Every job has ended, and everything was written to the client."""
        self.complete = True
        if not self.connection.finish():
            self.wake()

    def wake(self) -> None:
        self.connection.wake()

    def cut(self) -> None:
        self.connection.cut()

    def end(self) -> None:
        if self._group is not None:
            self._group.leave(self)
            self._group = None
        self._content = None
        self._app[STREAMS].remove(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    async def _catch_up(self, *, opens: bool = False, follow: bool = True) -> bool:
        """Write everything behind the cursor, page by page in turn; a stream that *opens* writes at least a heartbeat.

        A client for which the relay has waited `slow_after` seconds since it fell behind is slow (see `Patience`); any
        client may lag briefly in a burst. Without *follow* the stream is over once the client has caught up, and its
        last block is the position it has reached.
        Returns whether the stream is over. Await nothing between that and joining a group, or a record is missed.
        """
        patience = Patience(self._app[OPTIONS].slow_after if self.slow else math.inf)
        content = self._leave_group()
        if self.slow:
            await self._wait(self.connection.drained(), patience)
        turns = self._app[TURNS]
        await turns.wait_turn()
        opening = self._wire.opening(content.position) if opens else b""
        page = opening + self._next_page(content, slow=patience.is_over)
        if opens and not page:
            page = self._wire.heartbeat(content.position, moved=False)
        while page and not self.access_ended:
            await self._wait(self.connection.send(page), patience)
            await turns.wait_turn()
            page = self._next_page(content, slow=patience.is_over)
        if self.access_ended:
            why = {"reason": self.why_denied}
            await self.connection.send(self._wire.notice("denied", why, content.position))
            return True
        if content.ended:
            self.complete = True
            return True
        last = None
        if not follow:
            last = self._wire.heartbeat(content.position, moved=self._level != LEVELS[0])
        elif self.closing:
            last = self._bye(content.position)
        elif self._wire.renewed and asyncio.get_running_loop().time() >= self.expires:
            why = {"reason": "this stream is renewed"}
            last = self._wire.notice("bye", why, content.position, retry=RENEWAL_PAUSE)
        if last is not None:
            await self.connection.send(last)
        return last is not None

    async def _wait(self, drained: Awaitable[None], patience: Patience) -> None:
        """Wait until the client's connection has accepted all data. The time counts, where the relay was running."""
        running = self._app[WAITS].running
        begun = running()
        await drained
        patience.waited(running() - begun)

    def _join_group(self) -> None:
        """Be written to together with others that are up to date, until there is work for this client alone."""
        self.slow = False
        self.writer: Writer = self.connection.writer
        fanout, chunked = self._app[FAN_OUT], self.connection.chunked
        self._group = fanout.join_group(self, self._wire, self._level, self._selection, chunked=chunked)
        self._selection = self._group.selection  # one object for all members of the group

    def _leave_group(self) -> StreamContent:
        """Leave the group, if it is a member of one, and return the content behind what was reached there."""
        if self._group is not None:
            self._group.leave(self)
            self._group = None
        content, self._content = self._content, None
        if content is not None:
            return content
        start = resume_stream(self._app[RELAY].bus, self._selection, self.reached)
        return self._content_from(start, caught_up=True)

    def _content_from(self, start: StreamStart, *, caught_up: bool = False) -> StreamContent:
        encode = self._app[FAN_OUT].pages(self._wire)
        return StreamContent(
            self._app[RELAY],
            self._wire,
            start,
            level=self._level,
            caught_up=caught_up,
            encode=encode,
            counts=self._app[STREAMS].counts,
        )

    def _bye(self, position: Position) -> bytes:
        return self._wire.notice("bye", {"reason": "the relay is shutting down"}, position)

    def _next_page(self, content: StreamContent, *, slow: bool) -> bytes:
        page = content.next_page(slow=slow)
        while self._exchanges is not None and len(page) < PAGE_BYTES and (exchange := self._exchanges.next()):
            page += self._wire.notice("exchange", exchange, content.position)
        if (expiring := self.expiring()) is not None:
            page += self._wire.notice("expiring", expiring, content.position)
        return page


async def serve_stream(
    request: Request, session: StreamSession, headers: Mapping[str, str], *, follow: bool = True
) -> StreamResponse:
    """The response with these *headers* on which *session* is served; without *follow*, only what there is already."""
    response = StreamHead(headers=headers)
    if take := follow and session.may_be_taken_over(request):
        response.force_close()
    with suppress(ConnectionError):  # the client has left; no job depends on a connection
        await response.prepare(request)
        await session.run(request, response, follow=follow, take=take)
    return response


class _PendingExchanges:
    """Raw exchanges about the jobs of one stream that are still to be sent."""

    def __init__(self, selection: Selection, wake: Callable[[], None]) -> None:
        self._ids = None if selection.jobs is None else frozenset(job.id for job in selection.jobs)
        self._wake = wake
        self._exchanges: deque[Exchange] = deque(maxlen=PENDING_EXCHANGES)

    def __call__(self, exchange: Exchange) -> None:
        if self._ids is None or not self._ids.isdisjoint(exchange.jobs):
            self._exchanges.append(exchange)
            self._wake()

    def next(self) -> dict[str, Any] | None:
        """The oldest one, if any."""
        return msgspec.to_builtins(self._exchanges.popleft()) if self._exchanges else None
