"""The full test of faults: `python -m tests.faults [--rounds 200] [--seed NUMBER]`; status 1 if anything is wrong."""

import asyncio
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from tests.faults.disk import may_mount, small_disk
from tests.faults.rounds import Fault, run_rounds

FREEZE_EVERY = 40
FULL_EVERY = 10


@click.command
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=int, help="What is random is the same for the same seed; by default a new one.")
@click.option("--watch", is_flag=True, help="Measure the longest hold of the event loop as well.")
def soak(rounds: int, seed: int | None, watch: bool) -> None:
    """Kill a relay again and again while jobs run and twelve clients read, and compare what each was told.

    Every tenth round its disk is full as well, where a small one may be mounted, and every fortieth it stands still for
    longer than a job may take.
    """
    seed = random.randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
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
