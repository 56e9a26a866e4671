"""The part `chat`: what a record costs on the wire of a chat, beside the same on the native wire, in the same run."""

import asyncio
import resource
import selectors
import socket
import time
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final
from urllib.parse import urlsplit

from relay import Done, Relay
from relay.cli.serving import serving
from relay.config.settings import GatewaySettings
from tests.bench.child import in_child
from tests.bench.fanout.events import progress
from tests.bench.fanout.silent import Silent
from tests.bench.part import Findings, Plan, least, most, ratio
from web import create_app

__all__ = ["measure"]

WIRES: Final = ("native", "chat")
LONG: Final = 3_600.0
GOAL: Final = 1.15
AT_ONCE: Final = 100
CHAT: Final = b'{"model": "silent", "stream": true, "messages": [{"role": "user", "content": "a cat"}]}'
FIELDS: Final = (
    b"Host: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: bench\r\nX-Relay-Level: debug\r\n"
)
DATA: Final = b"data: "


class Accepting(Silent):
    """Accepts one submission, and never answers a poll."""

    async def submit(self, input: Mapping[str, Any]) -> str:
        return "task"


def measure(plan: Plan) -> Findings:
    """All readers follow one job; each wire in a server of its own, in turns."""
    readers, records = (20, 20) if plan.quick else (1_000, 200)
    runs: dict[str, list[dict[str, float]]] = {wire: [] for wire in WIRES}
    for number in range(plan.rounds):
        for wire in WIRES if number % 2 == 0 else WIRES[::-1]:
            runs[wire].append(in_child(_run, wire, readers, records))
            plan.say(f"chat: {wire} {number + 1}: {runs[wire][-1]}")
    cpu = {wire: [run["cpu_us"] for run in runs[wire]] for wire in WIRES}
    size = {wire: [run["bytes"] for run in runs[wire]] for wire in WIRES}
    return Findings(
        figures=[
            least("CPU of a delivery, native", "us", cpu["native"]),
            least("CPU of a delivery, chat", "us", cpu["chat"], note=f"{readers:,} readers of one job"),
            ratio("CPU of a delivery, chat / native", cpu["chat"], cpu["native"], goal=GOAL),
            ratio("bytes of a delivery, chat / native", size["chat"], size["native"]),
            most("readers that lack a block", "", [run["lacking"] for wire in WIRES for run in runs[wire]], goal=0),
        ],
        rows=[{"wire": wire, **run} for wire in WIRES for run in runs[wire]],
    )


def _run(wire: str, readers: int, records: int) -> dict[str, float]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_serve(wire, readers, records))


async def _serve(wire: str, readers: int, records: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    relay = Relay([Accepting()])
    app = create_app(
        relay, heartbeat=LONG, slow_after=LONG, send_timeout=LONG, sign_of_life=LONG, gateway=GatewaySettings()
    )
    async with serving(app, "127.0.0.1", 0) as address:
        request = b"POST /v1/chat/completions HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (FIELDS, len(CHAT), CHAT)
        if wire == "native":
            job = relay.submit("silent", {"prompt": "a cat"})
            request = b"GET /v1/jobs/%b/events HTTP/1.1\r\n%b\r\n" % (job.id.encode(), FIELDS)
        fresh = get_context("spawn")
        ours, theirs = fresh.Pipe()
        process = fresh.Process(target=_read, args=(theirs, urlsplit(address).port, request, readers), daemon=True)
        process.start()
        await loop.run_in_executor(None, ours.recv)
        (job,) = relay.jobs()
        await asyncio.sleep(0.5)  # the last of them joins its group
        before = time.process_time()
        for seq in range(records):
            relay.bus.publish(job, progress(seq))
            await asyncio.sleep(0.001)  # one write for each record
        relay.bus.publish(job, Done(urls=("https://example.org/a.mp4",)))
        counted, size = await loop.run_in_executor(None, ours.recv)
        spent = time.process_time() - before
        await loop.run_in_executor(None, process.join)
    full = max(max(counted), records)
    deliveries = readers * records
    return {
        "cpu_us": spent / deliveries * 1e6,
        "bytes": size / deliveries,
        "lacking": float(sum(count != full for count in counted)),
    }


def _read(answers: Connection, port: int, request: bytes, readers: int) -> None:
    """Readers in a process of their own: send once all are connected, and then what they have counted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    selector = selectors.DefaultSelector()
    counted, tails, size = [0] * readers, [b""] * readers, 0
    for start in range(0, readers, AT_ONCE):
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(AT_ONCE, readers - start))]
        for connection in connections:
            connection.sendall(request)
        for number, connection in enumerate(connections, start):
            received = b""
            while DATA not in received:
                received += connection.recv(65_536)
            counted[number], tails[number] = received.count(DATA), received[-len(DATA) + 1 :]
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, number)
    answers.send("ready")
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(262_144)
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            size += len(data)
            joined = tails[key.data] + data
            counted[key.data] += joined.count(DATA)
            tails[key.data] = joined[-len(DATA) + 1 :]
    answers.send((counted, size))
