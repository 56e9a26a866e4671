"""A loopback proxy with a gate in each direction, between one node and the engine.

Bytes at a closed gate wait, and go on once it is open again, also if the client has given up meanwhile: an engine then
executes a command whose sender knows nothing of its outcome.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

__all__ = ["Proxy"]

CHUNK: Final = 64 * 1024
AT_ONCE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection."""


class Proxy:
    """Passes bytes on between clients and *host*:*port*. Entering opens a port of its own, which it keeps.

    *requests* and *replies* are the gates; *delay* is how many seconds each chunk waits.
    """

    def __init__(self, host: str, port: int) -> None:
        self.requests = asyncio.Event()
        self.replies = asyncio.Event()
        self.delay = 0.0
        self.port = 0
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._waiting = asyncio.Event()
        self.release()

    def release(self) -> None:
        """Open both gates, and delay nothing any more."""
        self.delay = 0.0
        self._waiting.clear()
        self.requests.set()
        self.replies.set()

    def give_up(self) -> None:
        """Cut the connections of clients alone: what waits at the gate of requests still arrives, once it is open."""
        for link in self._links.values():
            _reset(link.writers[0])

    def reset(self) -> None:
        """Cut every connection, on both sides; what waits at a gate is lost."""
        for link in self._links.values():
            link.cut()

    async def refuse(self) -> None:
        """Cut every connection and refuse new ones, until `accept`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()

    async def waits(self) -> None:
        """Return once a chunk waits at a gate, or has waited there since it was closed."""
        await self._waiting.wait()

    async def accept(self) -> None:
        """Accept connections, if that is not so already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        links = list(self._links)
        await self.refuse()
        await asyncio.gather(*links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = link = _Link(writer)
        try:
            # Where the engine refuses the connection, the client sees it reset.
            with suppress(OSError):
                back, forth = await asyncio.open_connection(*self._target)
                link.writers.append(forth)
                link.pumps = [
                    asyncio.create_task(self._pump(reader, forth, self.requests)),
                    asyncio.create_task(self._pump(back, writer, self.replies)),
                ]
                await asyncio.wait(link.pumps)
        finally:
            del self._links[task]
            link.cut()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if not gate.is_set():
                    self._waiting.set()
                await gate.wait()
                writer.write(chunk)
                await writer.drain()
        with suppress(OSError):
            writer.write_eof()


class _Link:
    """A connection of a client, and the one to the engine that belongs to it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.pumps: list[asyncio.Task[None]] = []

    def cut(self) -> None:
        """Reset both, at once."""
        for pump in self.pumps:
            pump.cancel()
        for writer in self.writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    end: socket.socket | None = writer.get_extra_info("socket")
    if end is not None:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    writer.transport.abort()
