"""A wire between a sink and its server, on which things go wrong at a named place of the conversation."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["Fault", "Wire"]

Fault = Literal["cut", "lose-answer", "half-close", "swallow"]
"""`cut`: both ends lose the connection; the server has what came before the place. `lose-answer`: the server gets all,
and its answer is lost with the connection. `half-close`: the client reads the end of the stream, and what it writes is
read by nobody. `swallow`: nothing comes through any more, and the connection stays open."""

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Wire:
    """Listens on a port of loopback, and passes on what comes to the server that *dial* connects to."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._fault: tuple[Fault, bytes] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.happened = asyncio.Event()
        """Set once the fault has come."""
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def tasks(self) -> set["asyncio.Task[None]"]:
        """Those of the connections that are open."""
        return {*self._tasks}

    def fail(self, fault: Fault, at: bytes) -> None:
        """Let *fault* come once, when the client next sends the bytes *at*."""
        self._fault = fault, at
        self.happened.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._run(self._serve(reader, writer))

    def _run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        lost = asyncio.Event()
        back = self._run(self._back(far_reader, writer, lost))
        try:
            with suppress(ConnectionError):
                await self._forth(reader, writer, far_writer, lost)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            writer.transport.abort()
            far_writer.transport.abort()

    async def _forth(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_writer: asyncio.StreamWriter,
        lost: asyncio.Event,
    ) -> None:
        seen = b""
        while data := await reader.read(65536):
            if self._fault is None or self._fault[1] not in (seen := seen + data):
                far_writer.write(data)
                continue
            (fault, at), self._fault = self._fault, None
            if fault == "lose-answer":
                lost.set()
                far_writer.write(data)
                continue
            if fault == "cut":
                far_writer.write(data[: max(0, seen.index(at) - (len(seen) - len(data)))])
                await far_writer.drain()
                self.happened.set()
                return
            if fault == "half-close":
                writer.write_eof()
            self.happened.set()
            while await reader.read(65536):
                pass
            return

    async def _back(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await far_reader.read(65536):
                if lost.is_set():
                    self.happened.set()
                    break
                writer.write(data)
        writer.transport.abort()
