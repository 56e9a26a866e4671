"""Rounds: every server once, then in the opposite order, so that what else the machine does falls on all alike."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from tests.bench.fanout.scenarios import SCENARIOS, Figures, Scenario
from tests.bench.fanout.servers import missing, start

__all__ = ["DEFAULT_SERVERS", "Row", "measure"]

DEFAULT_SERVERS = ("relay", "nchan", "c-limit", "aiohttp-sse", "sse-starlette")

SKIPPED = {"S1d": ("aiohttp-sse", "sse-starlette")}
"""Who is not asked for what: with 10,000 clients these take longer for an event than until the next."""


class Row(Struct, frozen=True):
    """One run of one scenario against one server."""

    scenario: str
    server: str
    round: int
    figures: Figures
    error: str | None = None


def measure(
    scenarios: Sequence[str],
    servers: Sequence[str],
    rounds: int,
    say: Callable[[str], object],
    catalogue: dict[str, Scenario] = SCENARIOS,
) -> list[Row]:
    """Run *scenarios* against those of *servers* that are installed; *say* is told how it goes.

    The servers run on the first processor, and the clients on the second, where there are two.
    """
    ready = [name for name in servers if _installed(name, say)]
    processors = sorted(os.sched_getaffinity(0))
    cpus = (processors[0], processors[1]) if len(processors) > 1 else (None, None)
    rows: list[Row] = []
    for scenario in scenarios:
        wanted = [name for name in ready if name not in SKIPPED.get(scenario, ())]
        for number in range(rounds):
            for name in wanted if number % 2 == 0 else wanted[::-1]:
                rows.append(_run(scenario, catalogue[scenario], name, number, cpus))
                say(_brief(rows[-1]))
    return rows


def _installed(name: str, say: Callable[[str], object]) -> bool:
    lacking = missing(name)
    if lacking is not None:
        say(f"{name} is skipped: it needs {lacking}")
    return lacking is None


def _run(key: str, scenario: Scenario, name: str, number: int, cpus: tuple[int | None, int | None]) -> Row:
    server_cpu, client_cpu = cpus
    here = os.sched_getaffinity(0)
    if client_cpu is not None:
        os.sched_setaffinity(0, {client_cpu})
    try:
        with tempfile.TemporaryDirectory(prefix=f"relay-bench-{name}-") as directory:
            work = Path(directory)
            with start(name, work / "server", server_cpu, scenario.topics) as server:
                return Row(key, name, number, scenario.run(server, client_cpu, work))
    except (OSError, RuntimeError) as error:
        # One server that breaks down is a result too, and must not end the run.
        return Row(key, name, number, {}, f"{type(error).__name__}: {error}")
    finally:
        os.sched_setaffinity(0, here)


def _brief(row: Row) -> str:
    if row.error is not None:
        return f"{row.scenario} {row.round + 1} {row.server}: {row.error}"
    chosen = ("cpu_us", "p99_ms", "missing", "gaps", "kb_a_client", "accept_us", "idle_percent", "peak_growth_mb")
    found = (f"{key} {row.figures[key]:.4g}" for key in chosen if key in row.figures)
    return f"{row.scenario} {row.round + 1} {row.server}: {', '.join(found)}"
