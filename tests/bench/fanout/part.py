"""The part `fanout`: what handing one record to many readers costs, beside the same with others."""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import asdict

from tests.bench.fanout.measure import DEFAULT_SERVERS, SKIPPED, Row
from tests.bench.fanout.measure import measure as measure_rows
from tests.bench.fanout.scenarios import QUICK, SCENARIOS
from tests.bench.fanout.servers import missing
from tests.bench.fanout.tables import tables
from tests.bench.part import Figure, Findings, Plan, least, most, ratio

__all__ = ["figures", "measure"]

CPU_GOALS: Final = {
    "S1": {"nchan": 0.75, "c-limit": 1.2, "aiohttp-sse": 0.25, "sse-starlette": 0.25},
    "S1b": {"nchan": 1.05},
    "S1d": {"nchan": 0.92, "c-limit": 1.2},
    "S3y": {"nchan": 1.15},
}
"""The relay's CPU time of a delivery, over that of another in the same run."""

OTHER_PYTHON_GOALS: Final = {"S3y": 0.9}
"""The same over nchan's, for the relay on the other Python."""

LATENCY_GOALS: Final = {"S1": 0.85, "S1d": 0.85}
"""The relay's 99th percentile, over nchan's."""

SERVERS_OF_GOALS: Final = ("relay", "relay-other", "nchan", "c-limit")
SKIPPED_BY_GOALS: Final = {
    **dict.fromkeys(("S1", "S1b", "S1d"), ("relay-other",)),
    **dict.fromkeys(("S2", "S4"), ("relay-other", "nchan", "c-limit")),
}
SCENARIOS_OF_GOALS: Final = ("S3y", "S1b", "S1", "S1d", "S2", "S4")


def measure(plan: Plan) -> Findings:
    """Run the scenarios against every server that is installed."""
    catalogue = QUICK if plan.quick else SCENARIOS
    servers = plan.servers or (SERVERS_OF_GOALS if plan.goals else DEFAULT_SERVERS)
    scenarios = plan.scenarios or (SCENARIOS_OF_GOALS if plan.goals else list(catalogue))
    skipped = SKIPPED_BY_GOALS if plan.goals else SKIPPED
    rows = measure_rows(scenarios, servers, plan.rounds, plan.say, catalogue, skipped)
    return Findings(
        figures=list(figures(rows)),
        skipped=[f"{name}, which needs {lacking}" for name in servers if (lacking := missing(name)) is not None],
        failed=[f"{row.scenario} {row.server}, round {row.round + 1}: {row.error}" for row in rows if row.error],
        detail=tables(rows, catalogue),
        rows=[asdict(row) for row in rows],
    )


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """Of each scenario in *rows*, what the relay's readers cost, alone and beside others."""
    for key in dict.fromkeys(row.scenario for row in rows):
        ours = _Runs(rows, key, "relay")
        if not ours.good:
            continue
        if key == "S4":
            yield from _idle(ours)
        elif key == "S5":
            yield from _stuck(ours)
        else:
            yield from _fan(rows, key, ours)


def _fan(rows: Sequence[Row], key: str, ours: "_Runs") -> Iterator[Figure]:
    cpu = ours.all("cpu_us")
    yield least(f"{key} CPU of a delivery", "us", cpu, goal=0.45 if key == "S2" else None)
    for server in dict.fromkeys(row.server for row in rows if row.scenario == key):
        theirs = _Runs(rows, key, server)
        if server == "relay" or not theirs.good:
            continue
        yield ratio(
            f"{key} CPU of a delivery, relay / {server}",
            cpu,
            theirs.all("cpu_us"),
            goal=CPU_GOALS.get(key, {}).get(server),
        )
        if server == "nchan" and key in LATENCY_GOALS:
            p99 = theirs.all("p99_ms")
            yield ratio(f"{key} p99 latency, relay / nchan", ours.all("p99_ms"), p99, goal=LATENCY_GOALS[key])
        if server == "nchan" and (other := _Runs(rows, key, "relay-other")).good:
            yield ratio(
                f"{key} CPU of a delivery, relay on the other Python / nchan",
                other.all("cpu_us"),
                theirs.all("cpu_us"),
                goal=OTHER_PYTHON_GOALS.get(key),
            )
    yield least(f"{key} p99 latency", "ms", ours.all("p99_ms"))
    yield most(f"{key} deliveries missing, doubled or out of order", "", ours.sums("missing", "gaps", "dups"), goal=0)


def _idle(ours: "_Runs") -> Iterator[Figure]:
    yield least("S4 memory of an idle reader", "KB", ours.all("kb_a_client"), goal=0.8, note="everything counted")
    yield least("S4 memory of an idle reader, after a heartbeat", "KB", ours.all("kb_a_client_later"))
    yield least("S4 CPU to accept a reader", "us", ours.all("accept_us"), goal=150)
    yield least("S4 CPU while all are idle", "% of a core", ours.all("idle_percent"), goal=1)
    yield most("S4 readers refused", "", ours.all("refused"), goal=0)


def _stuck(ours: "_Runs") -> Iterator[Figure]:
    yield least("S5 memory grown by", "MB", ours.all("peak_growth_mb"), goal=8)
    yield most("S5 the others' missing, doubled or out of order", "", ours.sums("missing", "gaps", "dups"), goal=0)
    yield most("S5 backlog of the stuck reader in the kernel", "KB", ours.all("backlog_kb"), goal=64)


class _Runs:
    """The runs of one scenario with one server that did not break down."""

    def __init__(self, rows: Sequence[Row], key: str, server: str) -> None:
        self.good = [row.figures for row in rows if (row.scenario, row.server) == (key, server) and row.error is None]

    def all(self, figure: str) -> list[float]:
        return [float(run[figure]) for run in self.good]

    def sums(self, *figures: str) -> list[float]:
        return [float(sum(run[figure] for figure in figures)) for run in self.good]
