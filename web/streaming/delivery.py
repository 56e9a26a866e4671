"""One client being served: the content of its stream, and the connection that carries it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.web import Application

from relay import Position
from relay.events import LEVELS, Level
from sinks.sse import PAGE_BYTES
from web.access.access import Access
from web.access.guard import GUARD
from web.app_keys import OPTIONS, RELAY
from web.streaming.bare import BareConnection
from web.streaming.connections import StreamConnection
from web.streaming.content import StreamContent
from web.streaming.exchanges import PendingExchanges
from web.streaming.group import Group
from web.streaming.keys import FAN_OUT, REACTOR, STREAMS, TURNS, WAITS
from web.streaming.patience import Patience
from web.streaming.registry import OpenStream, StreamState
from web.streaming.resume import StreamStart, resume_stream
from web.streaming.wire import Wire

__all__ = ["Delivery"]

RENEWAL_PAUSE: Final = 250
"""Milliseconds until a client reconnects whose stream was ended for its age: no user should notice."""


class Delivery(OpenStream):
    """Serves one stream: reads behind the client's cursor as fast as the client receives it, and no faster.

    Most of its life it is up to date and a member of a group, which sets *slow* once the kernel does not accept
    everything, and *reached*, the position of the last record that was written. The content for the client alone is
    made when it is needed, and released after that. *complete* is set once the end of every job has been written.
    """

    __slots__ = (
        "_app",
        "_connection",
        "_content",
        "_exchanges",
        "_group",
        "_level",
        "_on_end",
        "_selection",
        "_wire",
        "chunked",
        "complete",
        "fd",
        "reached",
        "slow",
    )

    def __init__(
        self,
        app: Application,
        peer: str,
        access: Access,
        wire: Wire,
        start: StreamStart,
        level: Level,
        *,
        exchanges: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Await nothing between making *start* and this, so that snapshot and position are of the same moment.

        *peer* is the client that the stream is counted for. *exchanges*: whether raw exchanges are sent as well, if the
        application and the access allow it. *on_end* is called once when the stream is over, for whatever reason.
        """
        super().__init__(peer, access, app[GUARD].now)
        self._app = app
        self._wire = wire
        self._selection = start.selection
        self._level: Level = level
        self._content: StreamContent | None = self._content_from(start)
        self._group: Group | None = None
        debug = exchanges and self._app[OPTIONS].debug and self.access.allows("operate")
        self._exchanges = PendingExchanges(start.selection, self.wake) if debug else None
        self._on_end = on_end
        self._connection: StreamConnection | None = None
        self.fd: int = -1
        self.chunked: bool = True
        self.complete: bool = False
        self.reached: Position = start.known
        self.slow: bool = False

    @property
    def connection(self) -> StreamConnection:
        """The connection of the stream. On a bare descriptor it is made when it is needed."""
        return self._connection or self._bare_connection()

    def _bare_connection(self) -> BareConnection:
        if not isinstance(self._connection, BareConnection):
            self._connection = BareConnection(self._app[REACTOR], self)
        return self._connection

    def happened(self, events: int) -> None:
        """The epoll reports these *events* of the descriptor."""
        self._bare_connection().happened(events)

    def forget_connection(self) -> None:
        """The connection has nothing to keep; it will be made again when it is needed."""
        self._connection = None

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

    def leave_group(self) -> None:
        """Be written to alone from now on. Idempotent."""
        if self._group is not None:
            self._group.leave(self)
            self._group = None

    def end(self) -> None:
        self.leave_group()
        self._content = None
        self._app[STREAMS].remove(self)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def write(self, data: bytes, /) -> None:
        self.connection.write(data)

    def keep(self, rest: memoryview) -> None:
        """Write *rest*, which the kernel did not accept, before anything else; the stream is slow."""
        self._bare_connection().keep(rest)

    async def _catch_up(self, *, follow: bool = True) -> bool:
        """Write everything behind the cursor, page by page in turn; a stream that begins writes at least a heartbeat.

        A client for which the relay has waited `slow_after` seconds since it fell behind is slow (see `Patience`); any
        client may lag briefly in a burst. Without *follow* the stream is over once the client has caught up, and its
        last block is the position it has reached.
        Returns whether the stream is over. Await nothing between that and joining a group, or a record is missed.
        """
        patience = Patience(self._app[OPTIONS].slow_after if self.slow else math.inf)
        content = self._continue_alone()
        if self.slow:
            await self._wait(self.connection.drained(), patience)
        turns = self._app[TURNS]
        await turns.wait_turn()
        page = self._next_page(content, slow=patience.is_over) if content.begun else self._first_page(content)
        while page and not self.access_ended:
            await self._wait(self.connection.send(page), patience, len(page))
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

    async def _wait(self, drained: Awaitable[None], patience: Patience, accepted: int = 0) -> None:
        """Wait until the client's connection has accepted all data. The time counts, where the relay was running."""
        running = self._app[WAITS].running
        begun = running()
        await drained
        patience.waited(running() - begun, accepted)

    def _first_page(self, content: StreamContent) -> bytes:
        content.begun = True
        page = self._wire.opening(content.position) + self._next_page(content, slow=False)
        return page or self._wire.heartbeat(content.position, moved=False)

    def _join_group(self) -> None:
        """Be written to together with others that are up to date, until there is work for this client alone."""
        self.slow, self._content = False, None
        fanout = self._app[FAN_OUT]
        self._group = fanout.join_group(self, self._wire, self._level, self._selection, chunked=self.chunked)
        # One object for all members of the group.
        self._selection, self.reached = self._group.selection, self._group.position

    def _continue_alone(self) -> StreamContent:
        """Leave the group, if it is a member of one, and return the content behind what was reached there."""
        self.leave_group()
        content, self._content = self._content, None
        if content is not None:
            return content
        start = resume_stream(self._app[RELAY].bus, self._selection, self.reached)
        content = self._content_from(start, caught_up=True)
        content.begun = True
        return content

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
