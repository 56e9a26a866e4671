"""A tap in the wire between a client and the relay: it hands on the bytes in odd pieces, and knows what has passed."""

import asyncio
import random
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from tests.interop.middle import in_the_middle

__all__ = ["Wiretap", "wiretap"]

HEARTBEAT = b"\r\n2\r\n:\n\r\n"
"""A heartbeat in a chunk of its own, as it follows another chunk."""

PIECES = (1, 2, 3, 7, 64, 1_000, 5_000, 60_000)


class Wiretap:
    """What the relay has said through it, over all connections."""

    def __init__(self, port: int) -> None:
        self.passed = bytearray()
        self._port = port
        self._news = asyncio.Condition()
        self._cut_in: bytes | None = None
        self._random = random.Random(0)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until *true*; it is looked at whenever bytes have passed."""
        async with self._news:
            await self._news.wait_for(true)

    async def heartbeat_after(self, block: bytes) -> None:
        """Wait until *block* has passed, and a heartbeat after it.

        It is known by its end, with its id: the first page of a stream is framed as two chunks where it is long.
        """
        end = block[-60:]
        await self.until(lambda: HEARTBEAT in self.passed[self.passed.find(end) :] and end in self.passed)

    async def cut_in(self, block: bytes) -> None:
        """The next time that *block* passes, end the connection in the middle of it; return when that is done."""
        self._cut_in = block
        await self.until(lambda: self._cut_in is None)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Be the relay for one connection."""
        try:
            answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await self._tap(answers, questions, reader, writer)
            finally:
                questions.close()
        finally:
            writer.close()

    async def _tap(
        self, answers: StreamReader, questions: StreamWriter, reader: StreamReader, writer: StreamWriter
    ) -> None:
        asking = asyncio.create_task(_hand_on(reader, questions))
        try:
            with suppress(ConnectionError):
                while data := await answers.read(65_536):
                    whole = await self._hear(data)
                    for piece in self._pieces(whole):
                        writer.write(piece)
                        await writer.drain()
                    if len(whole) < len(data):
                        break
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _hear(self, data: bytes) -> bytes:
        """Note *data*, and return what of it is to be handed on."""
        async with self._news:
            if self._cut_in is not None and (begin := data.find(self._cut_in[:60])) >= 0:
                data = data[: begin + len(self._cut_in) // 2]
                self._cut_in = None
            else:
                self.passed += data
            self._news.notify_all()
        return data

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces = []
        while data:
            size = self._random.choice(PIECES)
            pieces.append(data[:size])
            data = data[size:]
        return pieces


async def _hand_on(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def wiretap(port: int) -> AsyncGenerator[tuple[Wiretap, str]]:
    """A tap before the server on *port* of loopback, and the address to use instead."""
    tap = Wiretap(port)
    async with in_the_middle(tap.serve) as address:
        yield tap, address
