"""The part `webhook`: what a signed delivery costs, beside a bare post of the same body without a signature.

Each way is a process of its own, in turns; the receiver is another, and answers as soon as it has a request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

from aiohttp import ClientSession, TCPConnector

from relay.events import Record
from relay.testing import sample_records
from sinks.webhook import WebhookSink
from tests.bench.child import in_child
from tests.bench.part import Findings, Plan, least, most, ratio

__all__ = ["measure"]

WAYS: Final = ("bare", "signed")
AT_ONCE: Final = (1, 10)
KEY: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOAL: Final = 1.75
"""Signed is at most so many times bare: body, signature and guard beside the request itself"""


def measure(plan: Plan) -> Findings:
    """Post to a receiver on loopback, with one and with ten requests under way at once."""
    deliveries = 100 if plan.quick else 5_000
    cases = [(way, at_once) for at_once in AT_ONCE for way in WAYS]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(plan.rounds):
        for case in cases if number % 2 == 0 else cases[::-1]:
            runs[case].append(in_child(_run, *case, deliveries))
            plan.say(f"webhook: {case[0]}, {case[1]} at once, {number + 1}: {runs[case][-1]}")
    cpu = {case: [run["cpu_us"] for run in found] for case, found in runs.items()}
    figures = []
    for at_once in AT_ONCE:
        per_core = 1e6 / min(cpu["signed", at_once])
        per_second = max(run["per_second"] for run in runs["signed", at_once])
        note = f"{per_core:,.0f} a second and core; {per_second:,.0f} a second beside the receiver"
        figures.append(least(f"CPU of a signed delivery, {at_once} at once", "us", cpu["signed", at_once], note=note))
        figures.append(
            ratio(
                f"CPU of a delivery, signed / bare, {at_once} at once",
                cpu["signed", at_once],
                cpu["bare", at_once],
                goal=GOAL,
            )
        )
    lacking = [deliveries - run["received"] for found in runs.values() for run in found]
    figures.append(most("deliveries that the receiver lacks", "", lacking, goal=0))
    return Findings(figures=figures, rows=[{"case": case, **run} for case, found in runs.items() for run in found])


def _run(way: str, at_once: int, deliveries: int) -> dict[str, float]:
    fresh = get_context("spawn")
    ours, theirs = fresh.Pipe()
    receiver = fresh.Process(target=_receive, args=(theirs,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{ours.recv()}/hook"
    try:
        found = asyncio.run((_signed if way == "signed" else _bare)(url, at_once, deliveries))
        ours.send("end")
        return {**found, "received": ours.recv()}
    finally:
        receiver.join()


async def _signed(url: str, at_once: int, deliveries: int) -> dict[str, float]:
    async with WebhookSink(url, secret=KEY, allow_private=True, lanes=at_once) as sink:
        return await _timed(sink.work, at_once, deliveries)


async def _bare(url: str, at_once: int, deliveries: int) -> dict[str, float]:
    async with ClientSession(connector=TCPConnector(limit=at_once)) as session:

        async def post(record: Record) -> None:
            async with session.post(url, data=record.json) as response:
                await response.read()

        return await _timed(post, at_once, deliveries)


async def _timed(deliver: Callable[[Record], Awaitable[object]], at_once: int, deliveries: int) -> dict[str, float]:
    records = sample_records()

    async def lane(count: int) -> None:
        for number in range(count):
            await deliver(records[number % len(records)])

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane(deliveries // at_once) for _ in range(at_once)))
    cpu, took = time.process_time() - cpu, time.perf_counter() - started
    return {"cpu_us": cpu / deliveries * 1e6, "per_second": deliveries / took}


def _receive(channel: Connection) -> None:
    """Answer every request with 204; say the port, and at the end how many there were."""
    asyncio.run(_serve(channel))


async def _serve(channel: Connection) -> None:
    received = 0

    class Protocol(asyncio.Protocol):
        def __init__(self) -> None:
            self._data = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self._transport = transport

        def data_received(self, data: bytes) -> None:
            nonlocal received
            self._data += data
            while (end := self._data.find(b"\r\n\r\n")) >= 0:
                head = self._data[:end].lower()
                begin = head.index(b"content-length:") + len(b"content-length:")
                length = int(head[begin:].split(b"\r\n", 1)[0])
                if len(self._data) < end + 4 + length:
                    return
                self._data = self._data[end + 4 + length :]
                received += 1
                self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
    async with server:
        channel.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, channel.recv)
    channel.send(received)
