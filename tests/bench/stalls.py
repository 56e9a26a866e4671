"""The part `stalls`: whether readers that read get every record although the machine stood still for 3 s."""

from typing import Final

from tests.bench.fanout.measure import running
from tests.bench.fanout.scenarios import Figures, Stuck
from tests.bench.part import Findings, Plan, most

__all__ = ["measure"]

RUNS: Final = 10
RUNS_OF_GOALS: Final = 5

STALLED: Final = Stuck(
    title="one of 100 never reads, and the machine stands still", clients=100, events=20_000, pad=0, stall=3
)
QUICK: Final = Stuck(
    title="one of 4 never reads, and the machine stands still", clients=4, events=400, rate=400, pad=0, stall=0.2
)


def measure(plan: Plan) -> Findings:
    """The flow of S5, with a stall in each run."""
    scenario = QUICK if plan.quick else STALLED
    runs = 1 if plan.quick else RUNS_OF_GOALS if plan.goals else RUNS
    found: list[Figures] = []
    for number in range(runs):
        with running("relay") as (server, cpu, work):
            found.append(run := scenario.run(server, cpu, work))
        plan.say(f"stalls {number + 1}: missing {run['missing']:,}, told {run['told']:,}, p99 {run['p99_ms']:.0f} ms")
    flow = f"{runs} runs, {scenario.events:,} records to {scenario.clients - scenario.stuck} readers that read"
    return Findings(
        figures=[
            most("the others' missing, a stall of 3 s in each run", "", _all(found, "missing"), goal=0, note=flow),
            most("the others' doubled, and readers refused", "", _all(found, "dups", "refused"), goal=0),
            most("the others' missing without a notice", "", _unreported(found), goal=0),
            most("runs without a stall in time", "", [float(not run["stalled"]) for run in found], goal=0),
            most("memory grown by", "MB", _all(found, "peak_growth_mb")),
        ],
        rows=found,
    )


def _all(runs: list[Figures], *figures: str) -> list[float]:
    return [float(sum(run[figure] for figure in figures)) for run in runs]


def _unreported(runs: list[Figures]) -> list[float]:
    return [float(run["missing"] - run["told"]) for run in runs]
