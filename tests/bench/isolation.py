"""The part `isolation`: how late records are on 50 streams beside sinks that raise, hang and dawdle, and without."""

import asyncio
import os
import selectors
import socket
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final
from urllib.parse import urlsplit

from relay import Done, Log, Record, Relay
from relay.cli.serving import serving
from sinks import ConsoleSink
from tests.bench.child import in_child
from tests.bench.fanout.silent import Silent
from tests.bench.part import Findings, Plan, least, most, ratio
from web import create_app

__all__ = ["measure"]

WAYS: Final = ("alone", "beside hostile sinks")
STREAMS: Final = 50
GOAL: Final = 2.0
BETWEEN: Final = 0.005
DAWDLES: Final = 0.2
LONG: Final = 3_600.0
MARK: Final = b"sent at "


def measure(plan: Plan) -> Findings:
    """The same records in both ways, each in a server of its own, in turns."""
    records = 50 if plan.quick else 1_000
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(plan.rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            runs[way].append(in_child(_run, way, records))
            plan.say(f"isolation: {way} {number + 1}: {runs[way][-1]}")
    alone, beside = ([run["p99_ms"] for run in runs[way]] for way in WAYS)
    return Findings(
        figures=[
            least("p99 of a delivery, alone", "ms", alone, note=f"{STREAMS} streams, {records:,} records"),
            least("p99 of a delivery, beside hostile sinks", "ms", beside),
            ratio("p99 of a delivery, beside hostile sinks / alone", beside, alone, goal=GOAL),
            most("records that a stream lacks", "", [run["lacking"] for way in WAYS for run in runs[way]], goal=0),
        ],
        rows=[{"way": way, **run} for way in WAYS for run in runs[way]],
    )


def raises(_: Record) -> None:
    raise RuntimeError("always")


async def never_returns(_: Record) -> None:
    await asyncio.Event().wait()


def dawdles(_: Record) -> None:
    time.sleep(DAWDLES)


def _ignore(_: str) -> None:
    """A notice for nobody."""


def _run(way: str, records: int) -> dict[str, float]:
    hostile = [] if way == "alone" else [raises, never_returns, dawdles]
    with open(os.devnull, "w") as out:
        return asyncio.run(_serve([*hostile, ConsoleSink(out, format="json")], records))


async def _serve(sinks: list[Any], records: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    relay = Relay([Silent()], sinks=sinks, notify=_ignore, leave_within=0.1)
    app = create_app(relay, heartbeat=LONG, slow_after=LONG, send_timeout=LONG)
    async with serving(app, "127.0.0.1", 0) as address:
        job = relay.follow("silent", "task")
        fresh = get_context("spawn")
        ours, theirs = fresh.Pipe()
        process = fresh.Process(target=_read, args=(theirs, urlsplit(address).port, job.id), daemon=True)
        process.start()
        await loop.run_in_executor(None, ours.recv)
        for _ in range(records):
            relay.bus.publish(job, Log(line=f"{MARK.decode()}{time.monotonic_ns()} "))
            await asyncio.sleep(BETWEEN)
        relay.bus.publish(job, Done(urls=("https://example.org/a.mp4",)))
        late, counted = await loop.run_in_executor(None, ours.recv)
        await loop.run_in_executor(None, process.join)
    late.sort()
    return {
        "p50_ms": late[len(late) // 2] * 1e3,
        "p99_ms": late[int(len(late) * 0.99)] * 1e3,
        "lacking": float(sum(count != records for count in counted)),
    }


def _read(answers: Connection, port: int, job: str) -> None:
    """Streams in a process of their own: send once all are connected, and then how late each record was."""
    selector = selectors.DefaultSelector()
    late: list[float] = []
    counted, rest = [0] * STREAMS, [b""] * STREAMS
    for number in range(STREAMS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while b"data: " not in received:
            received += connection.recv(65_536)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, number)
    answers.send("ready")
    while selector.get_map():
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(262_144)
            now = time.monotonic_ns()
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            *whole, rest[key.data] = (rest[key.data] + data).split(b"\n\n")
            for block in whole:
                _, mark, sent = block.partition(MARK)
                if mark:
                    counted[key.data] += 1
                    late.append((now - int(sent.split(b" ", 1)[0])) / 1e9)
    answers.send((late, counted))
