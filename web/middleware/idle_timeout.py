"""Connections that ask for nothing: aiohttp waits for a request for an hour, and each of them holds a descriptor."""

import asyncio
from asyncio import Task, Transport
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from aiohttp.web import AppRunner, Request, StreamResponse, middleware

from relay.clock import Clock, SystemClock
from web.problems import Handler

__all__ = ["REQUEST_LINE", "REQUEST_WITHIN", "Doorman", "doorman"]

REQUEST_WITHIN: Final = 10.0

REQUEST_LINE: Final = 256 * 1024
"""How long the address of a request may be, for the `max_line_size` of an AppRunner. aiohttp's own 8,190 bytes end at
300 jobs of a stream, with an answer that does not say so; who names ten thousand is still told in a sentence that this
is too many. The 128 fields of a head may hold four times as much."""


class Doorman:
    """Knows which connections have a request under way, and since when each of the others has had none."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._under_way: WeakKeyDictionary[Task[Any], Transport] = WeakKeyDictionary()
        self._since: WeakKeyDictionary[Transport, float] = WeakKeyDictionary()

    def asked(self, connection: Transport, task: Task[Any]) -> None:
        """This one has sent the whole head of a request, which is under way until *task* is done."""
        self._under_way[task] = connection
        self._since.pop(connection, None)

    def overdue(self, connections: Iterable[Transport], now: float) -> list[Transport]:
        """Those of *connections* that were first seen without a request at least the patience ago, and still are."""
        busy = {connection for task, connection in self._under_way.items() if not task.done()}
        overdue: list[Transport] = []
        for connection in connections:
            # Who takes an answer slowly asks for nothing meanwhile.
            if connection in busy or connection.get_write_buffer_size():
                self._since.pop(connection, None)
            elif now - self._since.setdefault(connection, now) >= self._patience:
                overdue.append(connection)
        return overdue


@asynccontextmanager
async def doorman(
    runner: AppRunner, patience: float = REQUEST_WITHIN, *, clock: Clock | None = None
) -> AsyncGenerator[None]:
    """While this is entered, cut off who sends no whole request head in *patience* seconds, give or take a quarter.

    It counts anew from the end of each answer: a connection that is kept is not kept for longer, and a head that comes
    a byte at a time gains nothing. Enter it before *runner* is set up.
    """
    door = Doorman(patience)

    @middleware
    async def note(request: Request, handler: Handler) -> StreamResponse:
        # aiohttp has a task for each request, which ends with the last byte of the answer.
        if request.transport is not None and (task := asyncio.current_task()) is not None:
            door.asked(request.transport, task)
        return await handler(request)

    runner.app.middlewares.insert(0, note)
    rounds = asyncio.create_task(_go_round(runner, door, clock or SystemClock(), patience / 4), name="doorman")
    try:
        yield
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds


async def _go_round(runner: AppRunner, door: Doorman, clock: Clock, pause: float) -> None:
    while True:
        handlers = runner.server.connections if runner.server is not None else []
        connections = [handler.transport for handler in handlers if handler.transport is not None]
        for connection in door.overdue(connections, clock.monotonic()):
            connection.abort()
        await clock.sleep(pause)
