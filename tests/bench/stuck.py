"""The part `stuck`: what one reader that never reads costs the relay's memory, and the others' time."""

from typing import Final

from tests.bench.fanout.measure import running
from tests.bench.fanout.scenarios import Figures, Stuck
from tests.bench.part import Figure, Findings, Plan, least, most, ratio

__all__ = ["measure"]

SERVER: Final = "relay"

WITH: Final = Stuck(title="one of 100 never reads", clients=100, events=20_000, rate=600, pad=800)
WITHOUT: Final = Stuck(title="all of 99 read", clients=99, stuck=0, events=20_000, rate=600, pad=800)
QUICK: Final = (
    Stuck(title="one of 4 never reads", clients=4, events=40, rate=400, pad=800),
    Stuck(title="all of 3 read", clients=3, stuck=0, events=40, rate=400, pad=800),
)


def measure(plan: Plan) -> Findings:
    """The same flow with the stuck reader and without, in turn; the others are as many in both."""
    scenarios = QUICK if plan.quick else (WITH, WITHOUT)
    runs: dict[Stuck, list[Figures]] = {scenario: [] for scenario in scenarios}
    for number in range(plan.rounds):
        for scenario in scenarios if number % 2 == 0 else scenarios[::-1]:
            with running(SERVER) as (server, cpu, work):
                runs[scenario].append(found := scenario.run(server, cpu, work))
            plan.say(f"stuck {number + 1}, {scenario.title}: p99 {found['p99_ms']:.2f} ms, {found['frames']} frames")
    with_it, without = runs.values()
    return Findings(
        figures=_figures(with_it, without, scenarios[0]),
        rows=[{"scenario": scenario.title, "runs": found} for scenario, found in runs.items()],
    )


def _figures(with_it: list[Figures], without: list[Figures], scenario: Stuck) -> list[Figure]:
    flow = f"{scenario.events:,} records at {scenario.rate:g} a second"
    both = with_it + without

    def of(runs: list[Figures], figure: str) -> list[float]:
        return [float(run[figure]) for run in runs]

    return [
        least("memory grown by", "MB", of(with_it, "peak_growth_mb"), goal=8, note=f"{flow}, {_megabytes(with_it)}"),
        least("memory grown by, without the stuck reader", "MB", of(without, "peak_growth_mb")),
        most("backlog of the stuck reader in the kernel", "KB", of(with_it, "backlog_kb"), goal=64),
        ratio("the others' p99 latency, with / without", of(with_it, "p99_ms"), of(without, "p99_ms"), goal=2),
        ratio("the others' p50 latency, with / without", of(with_it, "p50_ms"), of(without, "p50_ms")),
        least("the others' p99 latency, with", "ms", of(with_it, "p99_ms")),
        ratio("CPU of a delivery, with / without", of(with_it, "cpu_us"), of(without, "cpu_us")),
        most("the others' missing, doubled or out of order", "", _faults(both), goal=0),
    ]


def _faults(runs: list[Figures]) -> list[float]:
    return [float(run["missing"] + run["dups"] + run["refused"]) for run in runs]


def _megabytes(runs: list[Figures]) -> str:
    return f"{runs[0]['stream_mb']:.0f} MB in all"
