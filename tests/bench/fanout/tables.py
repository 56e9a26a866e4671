"""What was found, as tables in Markdown: minima over the rounds, and how they compare within the run."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import TypeAlias

from tests.bench.fanout.measure import Row
from tests.bench.fanout.scenarios import SCENARIOS, Fan, Figures, Scenario

__all__ = ["best", "tables"]

Column: TypeAlias = tuple[str, Callable[[Sequence[Figures]], str]]

FAN_COLUMNS: Sequence[Column] = (
    ("p50 ms", lambda runs: _median(runs, "p50_ms", 2)),
    ("p99 ms", lambda runs: _median(runs, "p99_ms", 2)),
    ("deliveries/s", lambda runs: _median(runs, "deliveries_per_s", 0)),
    ("bytes a frame", lambda runs: _median(runs, "bytes_a_frame", 0)),
    ("missing", lambda runs: _sum(runs, "missing", "refused")),
    ("gaps, repeats", lambda runs: _sum(runs, "gaps", "dups")),
)
IDLE_COLUMNS: Sequence[Column] = (
    ("KB a client", lambda runs: _least(runs, "kb_a_client", 2)),
    ("KB after the heartbeat", lambda runs: _least(runs, "kb_a_client_later", 2)),
    ("accept us", lambda runs: _least(runs, "accept_us", 0)),
    ("idle % of a core", lambda runs: _least(runs, "idle_percent", 2)),
    ("base MB", lambda runs: _least(runs, "base_mb", 1)),
    ("refused", lambda runs: _sum(runs, "refused")),
)
STUCK_COLUMNS: Sequence[Column] = (
    ("CPU us", lambda runs: _least(runs, "cpu_us", 2)),
    ("growth MB", lambda runs: _most(runs, "peak_growth_mb", 1)),
    ("stream MB", lambda runs: _most(runs, "stream_mb", 1)),
    ("kernel's backlog KB", lambda runs: _most(runs, "backlog_kb", 0)),
    ("others' missing", lambda runs: _sum(runs, "missing", "refused")),
    ("others' gaps, repeats", lambda runs: _sum(runs, "gaps", "dups")),
    ("p99 ms", lambda runs: _median(runs, "p99_ms", 2)),
    ("stuck one got", lambda runs: _median(runs, "stuck_got", 0)),
)


def tables(rows: Sequence[Row], catalogue: dict[str, Scenario] = SCENARIOS) -> str:
    """All *rows*, a table for each scenario."""
    keys = dict.fromkeys(row.scenario for row in rows)
    return "\n".join(_table(key, catalogue[key], [row for row in rows if row.scenario == key]) for key in keys)


def best(rows: Iterable[Row], scenario: str, server: str, figure: str = "cpu_us") -> float | None:
    """The least *figure* of all rounds."""
    found = [row.figures[figure] for row in rows if (row.scenario, row.server) == (scenario, server) and row.figures]
    return min(found, default=None)


def _table(key: str, scenario: Scenario, rows: Sequence[Row]) -> str:
    names = dict.fromkeys(row.server for row in rows)
    good = {name: [row.figures for row in rows if row.server == name and row.error is None] for name in names}
    if isinstance(scenario, Fan):
        columns: Sequence[Column] = (*_ratios(key, rows), *FAN_COLUMNS)
        order = sorted(names, key=lambda name: min((run["cpu_us"] for run in good[name]), default=float("inf")))
    else:
        columns = IDLE_COLUMNS if any("kb_a_client" in run for runs in good.values() for run in runs) else STUCK_COLUMNS
        order = list(names)
    lines = [
        f"### {key}: {scenario.title}\n",
        "| server | rounds | " + " | ".join(title for title, _ in columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
    ]
    for name in order:
        cells = [show(good[name]) if good[name] else "" for _, show in columns]
        lines.append(f"| {name} | {len(good[name])} | " + " | ".join(cells) + " |")
    lines += [f"\n{row.server}, round {row.round + 1}: {row.error}" for row in rows if row.error is not None]
    return "\n".join(lines) + "\n"


def _ratios(key: str, rows: Sequence[Row]) -> Iterable[Column]:
    """CPU per delivery, least and median, and how the least compares with that of others."""
    yield "CPU us a delivery", lambda runs: f"{_least(runs, 'cpu_us', 2)} (median {_median(runs, 'cpu_us', 2)})"
    for other in ("nchan", "c-limit", "aiohttp-sse", "sse-starlette"):
        if (least := best(rows, key, other)) is not None:
            yield f"x {other}", partial(_times, least)


def _times(least: float, runs: Sequence[Figures]) -> str:
    return f"{min(run['cpu_us'] for run in runs) / least:.2f}"


def _least(runs: Sequence[Figures], key: str, digits: int) -> str:
    return f"{min(run[key] for run in runs):.{digits}f}"


def _most(runs: Sequence[Figures], key: str, digits: int) -> str:
    return f"{max(run[key] for run in runs):.{digits}f}"


def _median(runs: Sequence[Figures], key: str, digits: int) -> str:
    return f"{median(run[key] for run in runs):.{digits}f}"


def _sum(runs: Sequence[Figures], *keys: str) -> str:
    return str(sum(run[key] for run in runs for key in keys))
