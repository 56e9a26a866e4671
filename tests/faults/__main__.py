"""The full tests of faults; status 1 if anything is wrong.

`python -m tests.faults [--rounds 200] [--seed NUMBER]` for one relay; with `--nodes 3` for a cluster, and 1,000 faults.
"""

import asyncio
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from tests.faults.cluster.mutants import MUTANTS
from tests.faults.cluster.soak import CHAPTER, soak_cluster
from tests.faults.disk import may_mount, small_disk
from tests.faults.rounds import Fault, run_rounds

FREEZE_EVERY = 40
FULL_EVERY = 10


@click.command
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=int, help="What is random is the same for the same seed; by default a new one.")
@click.option("--watch", is_flag=True, help="Measure the longest hold of the event loop as well.")
@click.option("--nodes", type=click.IntRange(1, 9), default=1, show_default=True, help="2 or more are a cluster.")
@click.option("--faults", type=click.IntRange(1), default=1000, show_default=True, help="Faults of a cluster.")
@click.option(
    "--chapter", type=click.IntRange(1), default=CHAPTER, show_default=True, help="Faults in each of its lives."
)
@click.option("--lease", type=click.FloatRange(0.5, 10.0), default=0.6, show_default=True, help="Seconds.")
@click.option("--mutant", type=click.Choice(sorted(MUTANTS)), multiple=True, help="Nodes without this protection.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder for what the nodes have printed and noted.")
def soak(
    rounds: int,
    seed: int | None,
    watch: bool,
    nodes: int,
    faults: int,
    chapter: int,
    lease: float,
    mutant: tuple[str, ...],
    keep: Path | None,
) -> None:
    """Kill a relay again and again while jobs run and twelve clients read, and compare what each received.

    Every tenth round its disk is full as well, where a small one may be mounted, and every fortieth it stands still for
    longer than a job may take.

    With two nodes or more: a cluster with a real engine. Nodes are killed, stopped, cut off and set to another time of
    day, the engine is killed and stopped, and a checker compares what every reader, node and upstream has seen.
    """
    seed = random.randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    if nodes > 1:
        raise SystemExit(soak_cluster(seed, nodes, faults, chapter, lease, mutant, keep, click.echo))
    with tempfile.TemporaryDirectory(prefix="relay-kill-") as folder, ExitStack() as stack:
        path, disk = Path(folder), None
        if may_mount():
            (path / "disk").mkdir()
            disk = stack.enter_context(small_disk(path / "disk"))
        verdict = asyncio.run(run_rounds(path, _faults(rounds, disk is not None), seed, disk=disk, watch=watch))
    for name, count in msgspec.structs.asdict(verdict).items():
        click.echo(f"{name.replace('_', ' '):<20} {count:>9,}")
    raise SystemExit(1 if verdict.faults else 0)


def _faults(rounds: int, may_fill: bool) -> list[Fault]:
    faults: list[Fault] = []
    for number in range(1, rounds + 1):
        if number % FREEZE_EVERY == 0:
            faults.append("freeze")
        elif number % FULL_EVERY == 0 and may_fill:
            faults.append("full")
        else:
            faults.append("kill")
    return faults


soak()
