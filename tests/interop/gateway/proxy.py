"""A raw TCP proxy before the relay, which counts requests and cuts connections where a test wants it."""

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from sinks.sse import HEARTBEAT
from tests.interop.middle import in_the_middle

__all__ = ["BEFORE_THE_HEADERS", "Cut", "Proxy", "after_block", "inside_block", "proxy"]

_REQUEST: Final = re.compile(rb"((?:GET|POST|DELETE) /\S+) HTTP/1\.1\r\n")

Cut = Callable[[bytes], int | None]
"""Where the bytes of an answer so far are cut; None where they are not, or not yet."""


def BEFORE_THE_HEADERS(_: bytes) -> int | None:  # noqa: N802
    """The answer is lost as a whole."""
    return 0


def after_block(number: int) -> Cut:
    """Right behind that block, the first being 1."""

    def cut(received: bytes) -> int | None:
        ends = [match.end() for match in re.finditer(b"\n\n", received)]
        return ends[number - 1] if len(ends) >= number else None

    return cut


def inside_block(number: int) -> Cut:
    """In the middle of the JSON of that block."""

    def cut(received: bytes) -> int | None:
        datas = [(match.start(), match.end()) for match in re.finditer(rb"^data: .*\n", received, re.MULTILINE)]
        return sum(datas[number - 1]) // 2 if len(datas) >= number else None

    return cut


class Proxy:
    """Counts the requests that clients make, and cuts the answers to the first as *cuts* say, in order."""

    def __init__(self, port: int) -> None:
        self.cuts: deque[Cut | None] = deque()
        self.received = bytearray()
        self.requests: list[str] = []
        self._port = port
        self._news = asyncio.Condition()
        self._open: set[StreamWriter] = set()

    @property
    def posts(self) -> int:
        """The number of requests that may cost money."""
        return sum(request.startswith("POST ") for request in self.requests)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until *true*; it is evaluated whenever bytes have passed."""
        async with self._news:
            await self._news.wait_for(true)

    async def heartbeat(self) -> None:
        """Wait until a heartbeat passes."""
        seen = len(self.received)
        await self.until(lambda: HEARTBEAT in self.received[seen:])

    async def request(self) -> None:
        """Wait until the answer to one more request passes."""
        seen = len(self.requests)
        await self.until(lambda: len(self.requests) > seen)

    def drop(self) -> None:
        """Close every connection that is open."""
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Be the relay for one connection. A relay that is not there ends it."""
        self._open.add(writer)
        try:
            with suppress(ConnectionError):
                answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
                answer = _Answer()
                asking = asyncio.create_task(self._ask(reader, questions, answer))
                try:
                    await self._pass_on(answers, writer, answer)
                finally:
                    questions.close()
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _ask(self, reader: StreamReader, questions: StreamWriter, answer: "_Answer") -> None:
        sent = bytearray()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                sent += data
                while (request := _REQUEST.search(sent)) is not None:
                    self.requests.append(request[1].decode())
                    answer.begin(self.cuts.popleft() if self.cuts else None)
                    del sent[: request.end()]
                    async with self._news:
                        self._news.notify_all()
                questions.write(data)
                await questions.drain()
            questions.write_eof()

    async def _pass_on(self, answers: StreamReader, writer: StreamWriter, answer: "_Answer") -> None:
        while data := await answers.read(65_536):
            data = answer.add(data)
            writer.write(data)
            await writer.drain()
            async with self._news:
                self.received += data
                self._news.notify_all()
            if answer.is_cut:
                return


class _Answer:
    """The bytes of the answer to the latest request of a connection, up to its cut."""

    def __init__(self) -> None:
        self.is_cut = False
        self._cut: Cut | None = None
        self._received = bytearray()

    def begin(self, cut: Cut | None) -> None:
        self._cut = cut
        self._received.clear()

    def add(self, data: bytes) -> bytes:
        """What of *data* is passed on."""
        before = len(self._received)
        self._received += data
        end = self._cut(bytes(self._received)) if self._cut is not None else None
        self.is_cut = end is not None
        return data if end is None else data[: max(0, end - before)]


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy before the server on *port* of loopback, and the address to use instead."""
    middle = Proxy(port)
    async with in_the_middle(middle.serve) as address:
        yield middle, address
