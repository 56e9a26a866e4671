"""How the bench makes a server emit events: a Unix socket, and one line of text for each request.

    publish <topic> <topics> <events> <rate> <size> <mode>

*topics* 0 publishes all events to *topic*; K spreads them round robin over `topic0` to `topicK-1`, each with a seq of
its own. *rate* is per second, 0 for as fast as possible; then *mode* `yield` gives the loop one turn after each event,
and `tight` none. *size* is how many bytes the JSON of an event has. The answer is one line, when all are published.

The relay also answers to `census`: with what is alive in its process, as one line of JSON.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from msgspec import Struct

__all__ = ["EXIT_AFTER", "Order", "arguments", "payload", "serve_control"]

EXIT_AFTER: Final = int(os.environ.get("BENCH_EXIT_AFTER", "900"))
"""Seconds after which a server ends by itself, whatever became of the bench; longer for a part that lasts longer."""


class Order(Struct, frozen=True):
    """What is to be published."""

    topic: str
    topics: int
    events: int
    rate: float
    size: int
    mode: str

    @classmethod
    def parse(cls, line: str) -> "Order":
        _, topic, topics, events, rate, size, mode = line.split()
        return cls(topic, int(topics), int(events), float(rate), int(size), mode)

    def __str__(self) -> str:
        return f"publish {self.topic} {self.topics} {self.events} {self.rate:g} {self.size} {self.mode}\n"

    def nth(self, index: int) -> tuple[str, int]:
        """The topic of an event, and which of that topic it is."""
        if not self.topics:
            return self.topic, index
        return f"{self.topic}{index % self.topics}", index // self.topics


def payload(seq: int, size: int) -> str:
    """The JSON of one progress event, *size* bytes of it."""
    head = (
        f'{{"v":1,"job":"job_0123456789abcdef","seq":{seq},"t":{time.monotonic_ns()},"type":"progress",'
        f'"percent":{seq % 100},"status":"running","pad":"'
    )
    return f'{head:x<{size - 2}}"}}'


async def serve_control(
    path: str,
    publish: Callable[[str, int, int], None],
    *,
    together: int = 1,
    batch: Callable[[], AbstractContextManager[None]] = nullcontext,
    census: Callable[[], bytes] = bytes,
) -> asyncio.AbstractServer:
    """Listen at *path*; *publish* is given the topic, the seq and the size of each event.

    Of events that are not paced, so many *together* make one *batch*, and have one turn of the loop.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if line == b"census\n":
                    writer.write(census() + b"\n")
                    continue
                order = Order.parse(line.decode())
                await _emit(order, publish, 1 if order.rate else together, batch)
                writer.write(b"ok\n")
                await writer.drain()
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, path)


async def _emit(
    order: Order,
    publish: Callable[[str, int, int], None],
    together: int,
    batch: Callable[[], AbstractContextManager[None]],
) -> None:
    start = time.monotonic()
    for first in range(0, order.events, together):
        if order.rate:
            await asyncio.sleep(max(0.0, start + first / order.rate - time.monotonic()))
        with batch():
            for index in range(first, min(first + together, order.events)):
                topic, seq = order.nth(index)
                publish(topic, seq, order.size)
        if not order.rate and order.mode == "yield":
            await asyncio.sleep(0)


def arguments(parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """What every server is started with; see to it that it ends."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--topics", type=int, default=0)
    signal.alarm(EXIT_AFTER)
    return parser.parse_args()
