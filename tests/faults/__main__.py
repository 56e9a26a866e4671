"""The full test of kills: `python -m tests.faults [--rounds 200] [--seed NUMBER]`; status 1 if anything is amiss."""

import asyncio
import random
import tempfile
from pathlib import Path

import click
import msgspec

from tests.faults.rounds import run_rounds


@click.command
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=int, help="What is random is the same for the same seed; by default a new one.")
def soak(rounds: int, seed: int | None) -> None:
    """Kill a relay again and again while jobs run and ten clients read, and compare what each was told."""
    seed = random.randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="relay-kill-") as folder:
        verdict = asyncio.run(run_rounds(Path(folder), rounds, seed))
    for name, count in msgspec.structs.asdict(verdict).items():
        click.echo(f"{name.replace('_', ' '):<20} {count:>9,}")
    raise SystemExit(1 if verdict.faults else 0)


soak()
