"""Rounds: every server once, then in the opposite order, so that what else the machine does falls on all alike."""

import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.bench.fanout.scenarios import SCENARIOS, Figures, Scenario
from tests.bench.fanout.servers import Server, missing, start

__all__ = ["DEFAULT_SERVERS", "SKIPPED", "Row", "measure", "processors", "running"]

DEFAULT_SERVERS = ("relay", "nchan", "c-limit", "aiohttp-sse", "sse-starlette")

SKIPPED: Final[Mapping[str, Sequence[str]]] = {
    "S1d": ("aiohttp-sse", "sse-starlette"),
    "S5": ("c-limit", "c-limit-joined"),
}
"""Servers that a scenario leaves out: with 10,000 clients two take longer for an event than until the next, and the
loop in C waits two seconds for each event that a stuck reader does not take."""

_LIBRARIES: Final = ("aiohttp-sse", "sse-starlette")
_OTHERS: Final = ("c-limit", *_LIBRARIES)

ONCE: Final = {
    "S1b": _OTHERS,
    "S2": _OTHERS,
    "S2y": _OTHERS,
    "S3y": _LIBRARIES,
    "S4": ("nchan", *_OTHERS),
    "S5": ("nchan", "aiohttp-sse", "sse-starlette"),
}
"""Whom no goal compares with, so that one round of it is enough: a whole run must not take half an hour."""


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
    skipped: Mapping[str, Sequence[str]] = SKIPPED,
) -> list[Row]:
    """Run *scenarios* against those of *servers* that are installed, but for those *skipped*.

    *say* is given a line for each run.
    """
    ready = [name for name in servers if _installed(name, say)]
    rows: list[Row] = []
    for scenario in scenarios:
        wanted = [name for name in ready if name not in skipped.get(scenario, ())]
        for number in range(rounds):
            for name in wanted if number % 2 == 0 else wanted[::-1]:
                if number and name in ONCE.get(scenario, ()):
                    continue
                rows.append(_run(scenario, catalogue[scenario], name, number))
                say(_brief(rows[-1]))
    return rows


def _installed(name: str, say: Callable[[str], object]) -> bool:
    lacking = missing(name)
    if lacking is not None:
        say(f"{name} is skipped: it needs {lacking}")
    return lacking is None


def _run(key: str, scenario: Scenario, name: str, number: int) -> Row:
    try:
        with running(name, scenario.topics) as (server, client_cpu, work):
            return Row(key, name, number, scenario.run(server, client_cpu, work))
    except (OSError, RuntimeError) as error:
        # One server that breaks down is a result too, and must not end the run.
        return Row(key, name, number, {}, f"{type(error).__name__}: {error}")


@contextmanager
def running(name: str, topics: int = 0) -> Generator[tuple[Server, int | None, Path]]:
    """The server of this name, the processor for its clients, and a directory for files."""
    with processors() as (server_cpu, client_cpu), tempfile.TemporaryDirectory(prefix=f"relay-bench-{name}-") as place:
        work = Path(place)
        with start(name, work / "server", server_cpu, topics) as server:
            yield server, client_cpu, work


@contextmanager
def processors() -> Generator[tuple[int | None, int | None]]:
    """The first processor, for a server, and the second, for whoever enters this, where there are two."""
    here = os.sched_getaffinity(0)
    known = sorted(here)
    server_cpu, client_cpu = (known[0], known[1]) if len(known) > 1 else (None, None)
    try:
        if client_cpu is not None:
            os.sched_setaffinity(0, {client_cpu})
        yield server_cpu, client_cpu
    finally:
        os.sched_setaffinity(0, here)


def _brief(row: Row) -> str:
    if row.error is not None:
        return f"{row.scenario} {row.round + 1} {row.server}: {row.error}"
    chosen = ("cpu_us", "p99_ms", "missing", "gaps", "kb_a_client", "accept_us", "idle_percent", "peak_growth_mb")
    found = (f"{key} {row.figures[key]:.4g}" for key in chosen if key in row.figures)
    return f"{row.scenario} {row.round + 1} {row.server}: {', '.join(found)}"
