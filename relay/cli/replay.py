"""`relay replay`: the records of a journal, printed again."""

import asyncio
import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import click

from relay import Record
from relay.cli import INTERRUPTED, say
from relay.cli.options import LogFormat, level_option, log_format_option, read_speed
from relay.cli.printing import WAITING, taken
from relay.cli.serving import run
from relay.events import Level
from relay.journal.sqlite import stored_records
from sinks import ConsoleSink

__all__ = ["paced", "replay"]


def _pace(text: str) -> float:
    return 0.0 if text == "0" else read_speed(text)


@click.command
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--job", "jobs", metavar="JOB", multiple=True, help="Replay this job alone; may be given more than once.")
@click.option(
    "--speed",
    type=_pace,
    default="1",
    show_default=True,
    metavar="NUMBER",
    help="How many seconds pass in one; 0 to wait for nothing.",
)
@click.option(
    "--sink",
    type=click.Choice(["console"]),
    default="console",
    show_default=True,
    expose_value=False,
    help="The form of the output.",
)
@log_format_option
@level_option()
def replay(journal: Path, jobs: tuple[str, ...], speed: float, log_format: LogFormat | None, level: Level) -> int:
    """Print the records of JOURNAL again, the file of a relay such as relay.db, in their own time.

    The file is only read; the relay may go on meanwhile. A record that cannot be read is left out, with a notice.
    """
    with _ending_with_its_reader():
        return run(partial(_replay, journal, jobs, speed, ConsoleSink(format=log_format, level=level)))


async def _replay(journal: Path, jobs: tuple[str, ...], speed: float, console: ConsoleSink, stop: asyncio.Event) -> int:
    async with console:
        try:
            with closing(stored_records(journal, jobs or None, notify=say)) as records:
                for pause, record in paced(records, speed):
                    await _wait(stop, pause)
                    await taken(console, WAITING, stop)
                    if stop.is_set():
                        return INTERRUPTED
                    console(record)
        finally:
            await taken(console, 0, stop)
    return 0


def paced(records: Iterable[Record], speed: float) -> Iterator[tuple[float, Record]]:
    """Each of *records*, with the seconds to wait before it: as it was, *speed* times as fast, or not at all for 0."""
    before = None
    for record in records:
        passed = (record.at - before).total_seconds() if before is not None else 0.0
        before = record.at
        yield (max(passed, 0.0) / speed if speed else 0.0), record


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    if not seconds:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


@contextmanager
def _ending_with_its_reader() -> Generator[None]:
    """As in `relay replay ... | head`: nobody reads the output any more."""
    if not hasattr(signal, "SIGPIPE"):
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)
