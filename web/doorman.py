"""Connections that ask for nothing: aiohttp waits for a first request for ever, and each of them holds a descriptor."""

import asyncio
from asyncio import Transport
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from aiohttp.web import AppRunner, Request, StreamResponse, middleware

from web.problems import Handler

__all__ = ["FIRST_REQUEST_WITHIN", "Doorman", "doorman"]

FIRST_REQUEST_WITHIN: Final = 10.0


class Doorman:
    """Knows since when each connection is there, and which of them have sent the whole head of a request."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._asked: WeakSet[Transport] = WeakSet()
        self._since: WeakKeyDictionary[Transport, float] = WeakKeyDictionary()

    def asked(self, connection: Transport) -> None:
        """This one has asked for something."""
        self._asked.add(connection)

    def overdue(self, connections: Iterable[Transport], now: float) -> list[Transport]:
        """Those of *connections* that were first seen here at least the patience ago, and have asked for nothing."""
        connections = list(connections)
        # Whose connection is a stream's by now is none of them, and stays; ten thousand references to those would too.
        self._asked.intersection_update(connections)
        silent = [connection for connection in connections if connection not in self._asked]
        return [connection for connection in silent if now - self._since.setdefault(connection, now) >= self._patience]


@asynccontextmanager
async def doorman(runner: AppRunner, patience: float = FIRST_REQUEST_WITHIN) -> AsyncGenerator[None]:
    """While this is entered, cut off who sends no whole request head in *patience* seconds, give or take a quarter.

    Enter it before *runner* is set up.
    """
    door = Doorman(patience)

    @middleware
    async def note(request: Request, handler: Handler) -> StreamResponse:
        if request.transport is not None:
            door.asked(request.transport)
        return await handler(request)

    runner.app.middlewares.insert(0, note)
    rounds = asyncio.create_task(_go_round(runner, door, patience / 4), name="doorman")
    try:
        yield
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds


async def _go_round(runner: AppRunner, door: Doorman, pause: float) -> None:
    now = asyncio.get_running_loop().time
    while True:
        handlers = runner.server.connections if runner.server is not None else []
        connections = [handler.transport for handler in handlers if handler.transport is not None]
        for connection in door.overdue(connections, now()):
            connection.abort()
        await asyncio.sleep(pause)
