"""The part `access`: what a stream and a delivery cost if readers prove who they are, beside a relay that asks nothing.

Every reader presents what the first one did, so that it is verified already. Both streams are measured: that of one
job, and that of all jobs, which is of the reader's own jobs where it has an access.
"""

from collections.abc import Mapping
from typing import Final

from tests.bench.fanout.accounting import cpu_seconds, settle
from tests.bench.fanout.measure import running
from tests.bench.fanout.servers import RelayServer
from tests.bench.fanout.tools import Load
from tests.bench.oracle import timing
from tests.bench.part import Figure, Findings, Plan, least, most, ratio

__all__ = ["measure"]

OPEN: Final = "relay-memory"
WAYS: Final = {"relay-key": "API key", "relay-jwt": "JWT", "relay-session": "session"}
STREAMS: Final = {"everything": "all jobs", "t": "one job"}
"""By the topic of their path. The first one is measured while nothing has been published yet, the other with a job of
which nothing has been.
"""

PUBLISHED: Final = {"everything": "other", "t": "t"}

GOAL: Final = 1.1
WARM: Final = 50

Run = Mapping[str, float]


def measure(plan: Plan) -> Findings:
    """Each server in a process of its own, in turns."""
    readers, events = (20, 20) if plan.quick else (1_000, 200)
    ways = [OPEN, *(list(WAYS)[:1] if plan.quick else WAYS)]
    runs: dict[tuple[str, str], list[Run]] = {}
    for number in range(plan.rounds):
        for name in ways if number % 2 == 0 else ways[::-1]:
            for stream, found in _run(name, readers, events).items():
                runs.setdefault((name, stream), []).append(found)
                plan.say(f"access {number + 1}, {name}, {STREAMS[stream]}: {found}")
    figures = [figure for stream in STREAMS for figure in _figures(runs, stream, ways)]
    lacking = [run["lacking"] for found in runs.values() for run in found]
    return Findings(
        figures=[*figures, *timing(plan), most("records that a reader lacks or has twice", "", lacking, goal=0)],
        rows=[{"server": name, "stream": stream, **run} for (name, stream), found in runs.items() for run in found],
    )


def _figures(runs: Mapping[tuple[str, str], list[Run]], stream: str, ways: list[str]) -> list[Figure]:
    figures = []
    for cost, what in (("accept_us", "CPU to accept a stream"), ("cpu_us", "CPU of a delivery")):
        alone = [run[cost] for run in runs[OPEN, stream]]
        figures.append(least(f"{what} of {STREAMS[stream]}, open", "us", alone))
        for name in ways[1:]:
            proved = [run[cost] for run in runs[name, stream]]
            figures.append(ratio(f"{what} of {STREAMS[stream]}, {WAYS[name]} / open", proved, alone, goal=GOAL))
    return figures


def _run(name: str, readers: int, events: int) -> dict[str, Run]:
    with running(name) as (server, cpu, work):
        assert isinstance(server, RelayServer)
        found: dict[str, Run] = {}
        field = ("--field", server.field) if server.field else ()
        for stream in STREAMS:
            paths = server.paths(stream, 0)
            with Load(server.port, paths, WARM, cpu, work, "--hold", "--timeout", 60, *field) as warm:
                warm.line()
            settle(server.pids)
            idle = cpu_seconds(server.pids)
            with Load(server.port, paths, readers, cpu, work, "--expect", events, "--timeout", 120, *field) as load:
                ready = load.line()
                settle(server.pids)
                accepted = cpu_seconds(server.pids)
                server.publish(PUBLISHED[stream], 0, events, 0, 0, "yield")
                done = load.line()
                settle(server.pids)
                delivered = cpu_seconds(server.pids)
            lacking = abs(readers * events - done["frames"]) + done["gaps"] + done["dups"] + ready["bad"]
            found[stream] = {
                "accept_us": (accepted - idle) / readers * 1e6,
                "cpu_us": (delivered - accepted) / (readers * events) * 1e6,
                "lacking": float(lacking),
            }
    return found
