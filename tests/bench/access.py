"""The part `access`: what a stream and a delivery cost if readers prove who they are, beside a relay that asks nothing.

All servers run at one time, on one processor, and take turns within each second: what else the machine does falls on
all alike. Every reader presents what the first one did, so that it is verified already. Two streams are measured: that
of one job, and that of all jobs, which is of the reader's own jobs where it has an access.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final
from urllib.request import Request, urlopen

from tests.bench.fanout.accounting import cpu_seconds, settle
from tests.bench.fanout.measure import running
from tests.bench.fanout.servers import RelayServer
from tests.bench.fanout.tools import Load
from tests.bench.oracle import timing
from tests.bench.part import Figure, Findings, Plan, least, most

__all__ = ["measure", "position"]

OPEN: Final = "relay-memory"
WAYS: Final = {"relay-key": "API key", "relay-jwt": "JWT", "relay-session": "session"}
STREAMS: Final = {"t": "one job", "everything": "all jobs"}
COSTS: Final = {"accept_us": "CPU to accept a stream", "cpu_us": "CPU of a delivery"}

GOAL: Final = 1.1
WARM: Final = 50
TURNS: Final = 4
"""How many turns each server has in a round."""

Run = Mapping[str, float]


def measure(plan: Plan) -> Findings:
    """Let the servers take turns; a ratio is the median of those of two servers in the same turn."""
    readers, events, turns = (20, 20, 1) if plan.quick else (300, 100, TURNS * plan.rounds)
    ways = [OPEN, *(list(WAYS)[:1] if plan.quick else WAYS)]
    runs: dict[tuple[str, str], list[Run]] = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name)) for name in ways}
        for number in range(-1, turns):
            for name in ways if number % 2 == 0 else ways[::-1]:
                server, cpu, work = servers[name]
                assert isinstance(server, RelayServer)
                for stream in STREAMS:
                    found = _turn(server, cpu, work, stream, readers if number >= 0 else WARM, events)
                    if number >= 0:
                        runs.setdefault((name, stream), []).append(found)
            plan.say(f"access: turn {number + 1} of {turns}")
    figures = [figure for stream in STREAMS for cost in COSTS for figure in _figures(runs, stream, cost, ways[1:])]
    lacking = [run["lacking"] for found in runs.values() for run in found]
    return Findings(
        figures=[*figures, *timing(plan), most("records that a reader lacks or has twice", "", lacking, goal=0)],
        rows=[{"server": name, "stream": stream, **run} for (name, stream), found in runs.items() for run in found],
    )


def _figures(runs: Mapping[tuple[str, str], list[Run]], stream: str, cost: str, ways: Sequence[str]) -> list[Figure]:
    what = f"{COSTS[cost]} of {STREAMS[stream]}"
    alone = [run[cost] for run in runs[OPEN, stream]]
    figures = [least(f"{what}, open", "us", alone)]
    for name in ways:
        ratios = sorted(run[cost] / max(other, 1e-9) for run, other in zip(runs[name, stream], alone, strict=True))
        quarter = len(ratios) // 4
        spread = (ratios[-1 - quarter] - ratios[quarter]) / median(ratios)
        label = f"{what}, {WAYS[name]} / open"
        figures.append(Figure(name=label, value=median(ratios), unit="x", goal=GOAL, spread=spread))
    return figures


def _turn(server: RelayServer, cpu: int | None, work: Path, stream: str, readers: int, events: int) -> Run:
    """Streams that begin at the newest record, so that nothing is replayed, and then some records for all of them."""
    field = ("--field", server.field) if server.field else ()
    paths = [f"{path}?last_event_id={position(server)}" for path in server.paths(stream, 0)]
    settle(server.pids)
    idle = cpu_seconds(server.pids)
    with Load(server.port, paths, readers, cpu, work, "--expect", events, "--timeout", 120, *field) as load:
        ready = load.line()
        settle(server.pids)
        accepted = cpu_seconds(server.pids)
        server.publish("t", 0, events, 0, 0, "yield")
        done = load.line()
        settle(server.pids)
        delivered = cpu_seconds(server.pids)
    return {
        "accept_us": (accepted - idle) / readers * 1e6,
        "cpu_us": (delivered - accepted) / (readers * events) * 1e6,
        "lacking": float(abs(readers * events - done["frames"]) + done["gaps"] + done["dups"] + ready["bad"]),
    }


def position(server: RelayServer) -> str:
    """The newest position of *server*, from which a stream replays nothing."""
    name, _, value = server.field.partition(": ")
    request = Request(f"http://127.0.0.1:{server.port}/v1/jobs", headers={name: value} if name else {})
    with urlopen(request) as answered:  # noqa: S310
        return str(json.load(answered)["position"])
