"""Closes idle connections: aiohttp waits an hour, or for ever, for a client that sends or reads nothing, and each such
client holds a descriptor, or the memory of a response."""

import asyncio
from asyncio import Task, Transport
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from operator import itemgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiohttp.web import AppRunner, Request, StreamResponse, middleware

from relay.clock import Clock, SystemClock
from relay.notices import notice
from relay.supervision.supervisor import Supervisor, stop
from web.app_keys import RELAY
from web.middleware.problems import Handler
from web.running_time import RunningTime
from web.unread import unread

__all__ = [
    "ANSWERS_LIMIT",
    "READ_WITHIN",
    "REQUEST_WITHIN",
    "IdleConnectionReaper",
    "StalledConnections",
    "reap_idle_connections",
]

REQUEST_WITHIN: Final = 10.0
STOPS_WITHIN: Final = 1.0

READ_WITHIN: Final = 120.0
"""Seconds after which a client that reads nothing more of its response is disconnected."""

ANSWERS_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of all responses that stand still at the moment; a list of 10,000 jobs has 2 MB."""


class IdleConnectionReaper:
    """Tracks which connections have a request in progress, and since when each of the others has had none."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._under_way: WeakKeyDictionary[Task[Any], Transport] = WeakKeyDictionary()
        # By the connections of the last round; a transport of uvloop for TLS cannot be referenced weakly.
        self._since: dict[Transport, float] = {}

    def request_started(self, connection: Transport, task: Task[Any]) -> None:
        """*connection* has sent the whole head of a request, which is in progress until *task* is done."""
        self._under_way[task] = connection
        self._since.pop(connection, None)

    def overdue(self, connections: Iterable[Transport], now: float) -> list[Transport]:
        """The *connections* that have had no request for at least the patience."""
        busy = {connection for task, connection in self._under_way.items() if not task.done()}
        # A client that reads a response slowly sends no request meanwhile.
        idle = [one for one in connections if one not in busy and not unread(one)]
        self._since = {connection: self._since.get(connection, now) for connection in idle}
        return [connection for connection, since in self._since.items() if now - since >= self._patience]


class StalledConnections:
    """Tracks which clients read nothing of their response, and since when. Streams have their own timeout."""

    def __init__(self, patience: float, limit: int) -> None:
        self._patience = patience
        self._limit = limit
        self._left: dict[Transport, tuple[int, float]] = {}

    def overdue(self, connections: Iterable[Transport], now: float) -> list[Transport]:
        """The *connections* that have stood still for the patience, and the largest ones if all exceed the limit."""
        waiting: list[tuple[int, Transport]] = []
        overdue: list[Transport] = []
        left: dict[Transport, tuple[int, float]] = {}
        for connection in connections:
            size = unread(connection)
            known, since = self._left.get(connection, (0, now))
            moved = not size or size != known
            left[connection] = (size, now if moved else since)
            if moved:
                continue
            if now - since >= self._patience:
                overdue.append(connection)
            else:
                waiting.append((size, connection))
        self._left = left
        return overdue + self._too_many(waiting)

    def _too_many(self, waiting: list[tuple[int, Transport]]) -> list[Transport]:
        excess = sum(size for size, _ in waiting) - self._limit
        cut: list[Transport] = []
        for size, connection in sorted(waiting, key=itemgetter(0), reverse=True):
            if excess <= 0:
                break
            excess -= size
            cut.append(connection)
        return cut


@asynccontextmanager
async def reap_idle_connections(
    runner: AppRunner, patience: float = REQUEST_WITHIN, *, clock: Clock | None = None
) -> AsyncGenerator[None]:
    """While entered, abort connections without a whole request head in *patience* seconds, plus or minus a quarter,
    and connections whose client reads nothing of a response.

    The time starts again at the end of each response; a head that arrives a byte at a time gains no time. Enter it
    before *runner* is set up.
    """
    reaper = IdleConnectionReaper(patience)

    @middleware
    async def note(request: Request, handler: Handler) -> StreamResponse:
        # aiohttp has a task for each request, which ends with the last byte of the response.
        if request.transport is not None and (task := asyncio.current_task()) is not None:
            reaper.request_started(request.transport, task)
        return await handler(request)

    runner.app.middlewares.insert(0, note)
    clock, relay = clock or SystemClock(), runner.app.get(RELAY)
    supervisor = Supervisor(clock, notice) if relay is None else relay.supervisor
    rounds = supervisor.start("the idle timeout", partial(_reap, runner, reaper, clock, patience / 4))
    try:
        yield
    finally:
        await stop([rounds], STOPS_WITHIN)


async def _reap(runner: AppRunner, reaper: IdleConnectionReaper, clock: Clock, pause: float) -> None:
    stalled = StalledConnections(READ_WITHIN, ANSWERS_LIMIT)
    running = RunningTime(2 * pause)  # after a stall, a request that is there may not have been read yet
    while True:
        handlers = runner.server.connections if runner.server is not None else []
        connections = [handler.transport for handler in handlers if handler.transport is not None]
        now = running.at(clock.monotonic())
        for connection in (*reaper.overdue(connections, now), *stalled.overdue(connections, now)):
            connection.abort()
        await clock.sleep(pause)
