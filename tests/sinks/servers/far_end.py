"""A real server as the far end of `check_sink`, with a wire in a thread of its own that makes trouble."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self, TypeVar

from sinks._remote import RemoteSink
from tests.sinks.servers.far import Far

__all__ = ["RealFarEnd"]

T = TypeVar("T")

State = Literal["well", "down", "frozen", "half_closed"]


class RealFarEnd:
    """Makes sinks, each with a place of its own at the server, and reads all that they have stored there.

    *place* makes such a place. The laws run on an event loop of their own, so the wire has another one.
    """

    def __init__(self, place: Callable[[], Far]) -> None:
        self._place = place
        self._places: list[Far] = []
        self._read: dict[int, tuple[int, bytes]] = {}
        self._state: State = "well"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter | None]] = set()
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._on_loop(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def sink(self) -> RemoteSink[Any]:
        """A sink at a place of its own."""
        self._places.append(self._place())
        return self._places[-1].sink(self._port, timeout=1.0, linger=0.0, capacity=1_000)

    def written(self) -> bytes:
        """All records that the server has, those of one place behind those of the other."""
        if self._places:
            self._on_loop(self._look())
        return b"".join(lines for _, lines in self._read.values())

    def down(self) -> None:
        self._become("down")

    def frozen(self) -> None:
        self._become("frozen")

    def half_closed(self) -> None:
        self._become("half_closed")

    def back(self) -> None:
        self._become("well")

    async def _look(self) -> None:
        """Read again what is at the last place, if there is more than before: no other has a sink that is at work."""
        number = len(self._places) - 1
        place = self._places[number]
        size = await place.size()
        if self._read.get(number, (0, b""))[0] != size:
            self._read[number] = size, b"".join(row.json + b"\n" for row in await place.stored(None))

    def _become(self, state: State) -> None:
        async def change() -> None:
            self._state = state
            if state != "half_closed":  # which comes with the next answer
                self._cut()

        self._on_loop(change())

    def _cut(self) -> None:
        if self._state == "frozen":
            return
        for near, far in self._pairs:
            near.transport.abort()
            if far is not None:
                far.transport.abort()

    async def _end(self) -> None:
        self._state = "down"
        self._cut()
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._state == "down":
            near.transport.abort()
            return
        far_reader, far = await self._places[-1].server.dial()
        pair = near, far
        self._pairs.add(pair)
        back = asyncio.ensure_future(self._pass(far_reader, near, answers=True))
        try:
            await self._pass(reader, far, answers=False)
        finally:
            back.cancel()
            self._pairs.discard(pair)
            near.transport.abort()
            far.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._state == "half_closed" and answers:
                    break
                if self._state != "frozen":
                    writer.write(data)
        writer.transport.abort()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)
