"""The part `replay`: how soon a client that missed 10,000 records has them, and what finding its place costs."""

import random
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from relay import Relay
from relay.bus import Bus
from relay.events import Position
from relay.jobs import Job
from relay.journal import Journal
from tests.bench.child import in_child
from tests.bench.fanout.measure import running
from tests.bench.part import Figure, Findings, Plan, least, most, ratio
from tests.bench.stories import ALL, KINDS, Kind, fill, journal
from web.streaming.content import StreamContent
from web.streaming.resume import start_stream
from web.streaming.selection import Selection
from web.streaming.wire import SSE

__all__ = ["measure"]

Samples = Mapping[str, Sequence[float]]

GOAL_MS: Final = 100.0
GOAL_FLAT: Final = 3.0

RECENT: Final = 10_000
"""As many newer records as SQLite's journal also has in memory: what lies behind them is read from the file."""

SERVERS: Final = {"relay": "SQLite", "relay-memory": "memory"}


def measure(plan: Plan) -> Findings:
    """Replay in the process and over a connection, and look up cursors in journals of two sizes."""
    records, newer = (200, 200) if plan.quick else (10_000, RECENT)
    sizes = (200, 2_000) if plan.quick else (10_000, 1_000_000)
    told = in_child(replayed, records, plan.rounds)
    plan.say(f"replay, in the process: {_brief(told)}")
    served: dict[str, list[float]] = {}
    for number in range(plan.rounds):
        for name in SERVERS if number % 2 == 0 else reversed(SERVERS):
            for case, sample in over_a_connection(name, records, newer).items():
                served.setdefault(case, []).append(sample)
        plan.say(f"replay {number + 1}, over a connection: {_brief(served)}")
    found: dict[Kind, dict[str, list[float]]] = {}
    for kind in KINDS:
        found[kind] = in_child(looked_up, kind, sizes, 100 if plan.quick else 2_000, plan.rounds)
        plan.say(f"lookup, {kind}: {_brief(found[kind])}")
    return Findings(
        figures=[*_replays(told, served, records), *_lookups(found, sizes)],
        rows=[{"told_ms": told, "served_ms": served, "lookup_us": found}],
    )


def _replays(told: Samples, served: Samples, records: int) -> list[Figure]:
    figures = [
        least(f"replay of {records:,} records, {case}", "ms", samples, goal=GOAL_MS)
        for case, samples in told.items()
        if case != "missing"
    ]
    figures += [
        least(f"replay of {records:,} records over a connection, {case}", "ms", samples, goal=GOAL_MS)
        for case, samples in served.items()
        if case != "missing"
    ]
    return [*figures, most("records missing in a replay", "", [*told["missing"], *served["missing"]], goal=0)]


def _lookups(found: Mapping[Kind, Samples], sizes: Sequence[int]) -> list[Figure]:
    figures = []
    small, large = (f"{size:,}" for size in sizes)
    for kind, cases in found.items():
        for whose in ("one job", "all jobs"):
            few, many = cases[f"{whose} of {small}"], cases[f"{whose} of {large}"]
            name = f"lookup of a cursor, {kind}, {whose}"
            figures += [
                least(f"{name}, among {small} records", "us", few),
                least(f"{name}, among {large} records", "us", many),
                ratio(f"{name}, {large} / {small}", many, few, goal=GOAL_FLAT),
            ]
    return figures


def _brief(samples: Samples) -> str:
    return ", ".join(f"{case} {min(found):.4g}" for case, found in samples.items())


def replayed(records: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds until a stream of a job with so many *records* has written all of them, by journal."""
    found: dict[str, list[float]] = {"missing": []}
    with ExitStack() as stack:
        memory = stack.enter_context(journal("memory", ALL))
        recent, stored = (stack.enter_context(journal("SQLite", ALL)) for _ in range(2))
        for kept in (memory, recent, stored):
            fill(kept, records)
        fill(stored, RECENT, prefix="other")
        cases = {"memory": memory, "SQLite, newest": recent, "SQLite, older": stored}
        for number in range(rounds + 1):
            for case, kept in cases.items():
                took, missing = _replay(kept, records)
                found["missing"].append(missing)
                # The first round also reads what is imported when it is first needed.
                if number:
                    found.setdefault(case, []).append(took)
    return found


def _replay(kept: Journal, records: int) -> tuple[float, float]:
    relay, job = Relay([], journal=kept), Job("job0")
    began = time.perf_counter()
    content = StreamContent(relay, SSE, start_stream(relay.bus, Selection([job]), None))
    pages = list(iter(content.next_page, b""))
    took = (time.perf_counter() - began) * 1000
    return took, records - b"".join(pages).count(b"\nid: ")


def over_a_connection(name: str, records: int, newer: int) -> dict[str, float]:
    """The same for a client on loopback, from connecting to the last record; again once there are *newer* ones."""
    kind = SERVERS[name]
    with running(name) as (server, _, _):
        server.publish("t", 0, records, 0, 0, "tight")
        (path,) = server.paths("t", 0)
        newest = [_download(server.port, path, records) for _ in range(2)]
        server.publish("other", 0, newer, 0, 0, "tight")
        older = [_download(server.port, path, records) for _ in range(2)]
    return {
        f"{kind}, newest": min(took for took, _ in newest),
        f"{kind}, older": min(took for took, _ in older),
        "missing": max(missing for _, missing in newest + older),
    }


def _download(port: int, path: str, records: int) -> tuple[float, float]:
    """Milliseconds until the last of so many *records* of progress is there, and how many of them are not."""
    received: list[bytes] = []
    end, tail = f'"seq":{records + 1},'.encode(), b""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        while end not in tail:
            data = connection.recv(256 * 1024)
            if not data:
                raise RuntimeError("the stream ended before the last record")
            received.append(data)
            tail = tail[-len(end) :] + data
    took = (time.perf_counter() - began) * 1000
    return took, records - b"".join(received).count(b'"type":"progress"')


def looked_up(kind: Kind, sizes: Sequence[int], lookups: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds to open a stream at a cursor and read the first record behind it, of 100 jobs, by size and by whose.

    The cursors lie anywhere among as many records as *sizes* says, behind which there are RECENT newer ones.
    """
    found: dict[str, list[float]] = {}
    draw = random.Random(1)
    with ExitStack() as stack:
        journals = [stack.enter_context(journal(kind, ALL)) for _ in sizes]
        for size, kept in zip(sizes, journals, strict=True):
            fill(kept, size, jobs=100)
            fill(kept, RECENT, jobs=100)
        for _ in range(rounds):
            for size, kept in zip(sizes, journals, strict=True):
                bus = Bus(kept)
                cursors = [Position(kept.epoch, draw.randrange(size)) for _ in range(lookups)]
                jobs = [Job(f"job{draw.randrange(100)}") for _ in range(lookups)]
                for whose, of in (("one job", [[job] for job in jobs]), ("all jobs", [None] * lookups)):
                    took = _look_up(bus, cursors, of)
                    found.setdefault(f"{whose} of {size:,}", []).append(took)
    return found


def _look_up(bus: Bus, cursors: Sequence[Position], streams: Sequence[Sequence[Job] | None]) -> float:
    named = [str(cursor) for cursor in cursors]
    began = time.perf_counter()
    for last_event_id, jobs in zip(named, streams, strict=True):
        start = start_stream(bus, Selection(jobs), last_event_id)
        if not bus.journal.read(start.after.offset, start.selection.ids(), limit=1):
            raise RuntimeError(f"there is nothing behind {last_event_id}")
    return (time.perf_counter() - began) / len(named) * 1e6
