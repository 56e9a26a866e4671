"""The part `cycles`: what is left in the relay of 100,000 clients that came and went."""

import asyncio
import json
import os
import re
import socket
import struct
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from tests.bench.fanout.accounting import memory_bytes, settle
from tests.bench.fanout.measure import running
from tests.bench.fanout.servers import RelayServer
from tests.bench.part import Figure, Findings, Plan, most

__all__ = ["measure"]

AT_ONCE: Final = 32
"""How many clients there are at a time."""

LEAVING: Final = ("before headers", "after headers", "after records", "after a live record")
ORDERLY_EVERY: Final = 8
"""Who closes in order keeps a port for a minute (TIME_WAIT), so most end with a reset; there are some 28,000 ports."""

HISTORY: Final = 30
FILL: Final = 11_000
"""As many records as SQLite's journal has in memory as well. Before the first cycle there are as many, so that it grows
no more, and while the relay warms up each gives way to another: among what clients need for a moment they lie less
densely, which takes 1 to 2 MB, once [measured].
"""

RATE: Final = 100
WARMING_RATE: Final = 1_500
GOAL_BYTES: Final = 10.0
"""A cycle, over 100,000 of them: 1 MB. An object that leaked would be 50 or more."""

GOAL_BLOCKS: Final = 0.1
"""A cycle. An object that leaked would be one block of the allocator at least, however much lies free beside it."""

RESET: Final = struct.pack("ii", 1, 0)
WITHIN: Final = 30.0

_ID: Final = re.compile(rb"\nid: (\S+)\n\n")
_READ_TO: Final = {"after headers": re.compile(rb"\r\n\r\n"), "after records": _ID, "after a live record": _ID}
_READ_TIMES: Final = {"after headers": 1, "after records": 10, "after a live record": 1}


def measure(plan: Plan) -> Findings:
    """Clients come and go, a tenth of them to warm up; then it is counted what is there that was not before."""
    cycles, fill = (400, 100) if plan.quick else (100_000, FILL)
    with running("relay") as (server, _, _):
        assert isinstance(server, RelayServer)
        server.publish("t", 0, HISTORY, 0, 0, "tight")
        server.publish("other", 0, fill, 0, 0, "tight")
        alone = _descriptors(server)
        _warm_up(server, max(AT_ONCE, cycles // 10), fill)
        before = _census(server, alone)
        half = asyncio.run(_come_and_go(server, cycles // 2))
        between = _census(server, alone, before)
        plan.say(f"cycles: half of them, memory grew by {(between['memory'] - before['memory']) / 1024:.0f} KB")
        ways = half + asyncio.run(_come_and_go(server, cycles - cycles // 2))
        after = _census(server, alone, before)
        complaints = server.complaints()
    left = _left(before, after)
    plan.say(f"cycles: {dict(ways)}, left over: {left or 'nothing'}")
    return Findings(
        figures=_figures(before, between, after, left, cycles, complaints),
        rows=[{"ways": dict(ways), "before": before, "between": between, "after": after, "left": left}],
        detail=f"The clients left {', '.join(f'{way} ({number:,})' for way, number in ways.items())}.\n",
    )


def _figures(
    before: Mapping[str, Any],
    between: Mapping[str, Any],
    after: Mapping[str, Any],
    left: Mapping[str, int],
    cycles: int,
    complaints: Sequence[str],
) -> list[Figure]:
    grown, blocks = (after[what] - before[what] for what in ("memory", "blocks"))
    names = "; ".join(f"{number} {name}" for name, number in left.items())
    return [
        Figure(name="memory grown by", value=grown / 1024, unit="KB", note=f"over {cycles:,} cycles"),
        Figure(name="memory grown by, second half", value=(after["memory"] - between["memory"]) / 1024, unit="KB"),
        Figure(name="memory grown by, a cycle", value=grown / cycles, unit="B", goal=GOAL_BYTES),
        Figure(name="blocks of memory left over, a cycle", value=blocks / cycles, goal=GOAL_BLOCKS),
        *(
            most(f"{what} left over", "", [float(max(0, after[what] - before[what]))], goal=0)
            for what in ("tasks", "streams", "descriptors")
        ),
        most("objects of the relay and of aiohttp left over", "", [float(sum(left.values()))], goal=0, note=names),
        most("complaints of the relay", "", [float(len(complaints))], goal=0, note="; ".join(complaints[:1])),
    ]


def _left(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int]:
    """The objects that are there after, and were not before."""
    left = {name: number - before["objects"].get(name, 0) for name, number in after["objects"].items()}
    return {name: number for name, number in left.items() if number > 0}


def _census(server: RelayServer, alone: int, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What there is in the server, once it has noticed that everybody has left, and has come to rest.

    A server that waits for a processor looks as if it were at rest: where more is there than *before*, it is counted
    again until WITHIN seconds are over.
    """
    end = time.monotonic() + WITHIN
    while _descriptors(server) > alone and time.monotonic() < end:
        time.sleep(0.05)
    settle(server.pids)
    said = server.census()
    while before is not None and _left(before, said) and time.monotonic() < end:
        settle(server.pids)
        said = server.census()
    settle(server.pids)
    return {**said, "memory": memory_bytes(server.pids), "descriptors": _descriptors(server)}


def _descriptors(server: RelayServer) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.pids)


def _warm_up(server: RelayServer, cycles: int, records: int) -> None:
    """Let so many clients come and go at least, and *records* be published meanwhile."""
    begun = _offset(server.port)
    while _offset(server.port) - begun < records:
        asyncio.run(_come_and_go(server, cycles, WARMING_RATE))


async def _come_and_go(server: RelayServer, cycles: int, rate: int = RATE) -> Counter[str]:
    """So many clients, AT_ONCE at a time, leave in all ways in turn, while records flow: *rate* a second."""
    (story,), (live,) = server.paths("t", 0), server.paths("other", 0)
    ways: Counter[str] = Counter()
    head = _position(server.port).encode()

    async def clients(number: int) -> None:
        way, cursor = LEAVING[number % len(LEAVING)], head
        for nth in range(len(range(number, cycles, AT_ONCE))):
            reset = nth % ORDERLY_EVERY != 0
            async with asyncio.timeout(WITHIN):
                if way == "after a live record":
                    cursor = await _cycle(server.port, live, way, cursor, reset=reset)
                else:
                    await _cycle(server.port, story, way, b"", reset=reset)
            ways[way] += 1

    over = asyncio.Event()
    publishing = asyncio.create_task(_publish(server, over, rate))
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(clients(number))
    finally:
        over.set()
        await publishing
    return ways


async def _publish(server: RelayServer, over: asyncio.Event, rate: int) -> None:
    while not over.is_set():
        await asyncio.to_thread(server.publish, "other", 0, rate, rate, 0, "yield")


async def _cycle(port: int, path: str, way: str, cursor: bytes, *, reset: bool) -> bytes:
    """One client: it connects, goes on behind *cursor*, and leaves. Returns the last id that it saw."""
    loop = asyncio.get_running_loop()
    resume = b"Last-Event-ID: %b\r\n" % cursor if cursor else b""
    request = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%b\r\n" % (path.encode(), resume)
    with socket.socket() as connection:
        connection.setblocking(False)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        if way == "before headers":
            # Some in the middle of their request, the others before its answer.
            await loop.sock_sendall(connection, request if reset else request[:-2])
            return cursor
        await loop.sock_sendall(connection, request)
        received = b""
        while len(_READ_TO[way].findall(received)) < _READ_TIMES[way]:
            data = await loop.sock_recv(connection, 64 * 1024)
            if not data:
                raise RuntimeError(f"the relay ended a stream that was read {way}: {received[:200]!r}")
            received += data
    return _ID.findall(received)[-1] if way == "after a live record" else cursor


def _offset(port: int) -> int:
    """How many records the relay has published."""
    return int(_position(port).rpartition("-")[2])


def _position(port: int) -> str:
    """Where the relay's whole story stands."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/events", headers={"Accept": "application/json"})
    with urllib.request.urlopen(asked, timeout=WITHIN) as answer:  # noqa: S310
        return cast(str, json.load(answer)["position"])
