"""The part `traffic`: whether 10,000 streams weigh as much after so many minutes of traffic as before (`--minutes`)."""

import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct

from tests.bench.fanout.accounting import cpu_seconds, memory_bytes, settle
from tests.bench.fanout.measure import running
from tests.bench.fanout.tools import Load
from tests.bench.part import Figure, Findings, Plan, most

__all__ = ["measure"]

GOAL: Final = 1.1
"""Times the memory of the whole process before the traffic."""

GRACE: Final = 300.0
"""Seconds that connecting and the last records may take."""


class Sizes(Struct, frozen=True, kw_only=True):
    """Readers spread over as many jobs; records a second, of all jobs in turn.

    *fill* records go out before: as many as SQLite's journal has in memory as well, so that it grows no more.
    """

    readers: int = 10_000
    jobs: int = 100
    rate: int = 20
    fill: int = 11_000


QUICK: Final = Sizes(readers=40, jobs=4, rate=40, fill=100)


def measure(plan: Plan) -> Findings:
    """Streams stay open while records flow; the memory is read before, and when all have received everything."""
    sizes = QUICK if plan.quick else Sizes()
    rounds = 1 if plan.quick else max(1, round(plan.minutes * 60 * sizes.rate / sizes.jobs))
    with _longer_servers(plan.minutes * 60 + 3 * GRACE):
        found = _traffic(plan, sizes, rounds)
    return Findings(figures=list(_figures(sizes, found)), rows=[found])


@contextmanager
def _longer_servers(seconds: float) -> Generator[None]:
    """Let a server that is started meanwhile run for as long, before it ends by itself."""
    os.environ["BENCH_EXIT_AFTER"] = str(int(seconds))
    try:
        yield
    finally:
        del os.environ["BENCH_EXIT_AFTER"]


def _traffic(plan: Plan, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """So many *rounds*, of a record of each job."""
    with running("relay", sizes.jobs) as (server, cpu, work):
        server.publish("other", 0, sizes.fill, 0, 0, "tight")
        settle(server.pids)
        alone = memory_bytes(server.pids)
        # A round first, so that each stream has been written to once.
        expect = ("--expect", rounds + 1, "--timeout", GRACE + (rounds + 1) * sizes.jobs / sizes.rate)
        with Load(server.port, server.paths("t", sizes.jobs), sizes.readers, cpu, work, *expect) as load:
            ready = load.line()
            server.publish("t", sizes.jobs, sizes.jobs, sizes.rate, 0, "yield")
            settle(server.pids)
            before, used, began = memory_bytes(server.pids), cpu_seconds(server.pids), time.monotonic()
            between = before
            for number in range(rounds):
                server.publish("t", sizes.jobs, sizes.jobs, sizes.rate, 0, "yield")
                if number + 1 == max(1, rounds // 2):
                    between = memory_bytes(server.pids)
                    plan.say(f"traffic: half of it, {between / before:.3f} times the memory")
            done = load.line()
            settle(server.pids)
            seconds = time.monotonic() - began
            return {
                "refused": ready["bad"],
                "alone": alone,
                "before": before,
                "between": between,
                "after": memory_bytes(server.pids),
                "seconds": seconds,
                "percent": (cpu_seconds(server.pids) - used) / seconds * 100,
                "deliveries": rounds * sizes.readers,
                "faults": (rounds + 1) * sizes.readers - done["frames"] + done["gaps"] + done["dups"] + ready["bad"],
            }


def _figures(sizes: Sizes, found: Mapping[str, Any]) -> list[Figure]:
    flow = f"{found['seconds'] / 60:.1f} minutes, {found['deliveries']:,} deliveries"
    return [
        Figure(
            name=f"memory with {sizes.readers:,} streams, after the traffic / before",
            value=found["after"] / found["before"],
            unit="x",
            goal=GOAL,
            note=flow,
        ),
        Figure(name="the same, after / in the middle", value=found["after"] / found["between"], unit="x"),
        Figure(
            name="memory of a stream, before",
            value=(found["before"] - found["alone"]) / sizes.readers / 1024,
            unit="KB",
        ),
        Figure(
            name="memory of a stream, after",
            value=(found["after"] - found["alone"]) / sizes.readers / 1024,
            unit="KB",
            note="all that the process grew by, among as many",
        ),
        Figure(name="CPU during the traffic", value=found["percent"], unit="% of a core"),
        most("streams refused; records missing, doubled or out of order", "", [float(found["faults"])], goal=0),
    ]
