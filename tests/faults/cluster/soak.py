"""The full test of a cluster: chapters of faults, each with a cluster and a seed of its own, and one summary."""

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.faults.cluster.chapter import Plan, run_chapter
from tests.faults.cluster.outcome import Outcome
from tests.journal.redis.servers import Kind, program_of

__all__ = ["CHAPTER", "soak_cluster"]

CHAPTER: Final = 100
"""Faults of one chapter: what its readers have received is held in memory until it is judged."""

LOSE_EVERY: Final = 4
"""Every fourth chapter the engine is emptied as well, and started with older data."""

ENGINES: Final[tuple[Kind, ...]] = ("redis", "valkey")
"""The chapters have them in turn."""

SHOWN: Final = 5


def soak_cluster(
    seed: int,
    nodes: int,
    faults: int,
    chapter: int,
    lease: float,
    mutants: tuple[str, ...],
    keep: Path | None,
    say: Callable[[str], None],
) -> int:
    """Run chapters until there were *faults*; 1 if anything is wrong, or if a takeover took over two leases."""
    engines: list[Kind] = [kind for kind in ENGINES if program_of(kind) is not None]
    outcomes: list[Outcome] = []
    while (done := sum(outcome.faults.total() for outcome in outcomes)) < faults:
        number = len(outcomes)
        plan = Plan(
            seed=seed + number,
            faults=min(chapter, faults - done),
            nodes=nodes,
            engine=engines[number % len(engines)],
            lease=lease,
            longest_stop=30.0 if number == 1 else 5.0,
            losses=("flush", "restore") if number % LOSE_EVERY == LOSE_EVERY - 1 else (),
            mutants=mutants,
        )
        say(f"\nchapter {number + 1}, seed {plan.seed}, {plan.engine}")
        with ExitStack() as stack:
            if keep is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-soak-")))
            else:
                folder = keep / f"chapter-{number + 1}"
                folder.mkdir(parents=True)
            outcome = asyncio.run(run_chapter(folder, plan))
        outcomes.append(outcome)
        for line in outcome.lines():
            say(line)
        for fault, beside in sorted(
            {(each.fault, each.beside) for each in outcome.takeovers if each.seconds > 2 * lease}
        ):
            say(f"  above two leases: {fault}, beside {', '.join(beside) or 'nothing'}")
        for kind, count in Counter(violation.invariant for violation in outcome.violations).items():
            say(f"  {count} of {kind}")
            for violation in [each for each in outcome.violations if each.invariant == kind][:SHOWN]:
                say(f"    {violation}")
    seconds = sorted(takeover.seconds for outcome in outcomes for takeover in outcome.takeovers)
    violations = sum(len(outcome.violations) for outcome in outcomes)
    say(f"\nin all       {done:,} faults, {sum(outcome.records for outcome in outcomes):,} records")
    say(f"             {sum(outcome.deliveries for outcome in outcomes):,} deliveries, {violations} violations")
    if seconds:
        late = sum(each > 2 * lease for each in seconds)
        p99 = seconds[int(0.99 * (len(seconds) - 1))]
        say(
            f"takeovers    {len(seconds):,}: p50 {statistics.median(seconds):.2f} s, p99 {p99:.2f} s,"
            f" max {seconds[-1]:.2f} s; {late} above two leases of {lease:g} s"
        )
    return 1 if violations else 0
