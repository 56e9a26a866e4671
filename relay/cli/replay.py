"""`relay replay`: the records of a journal, printed again."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import aclosing, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from relay import Record
from relay.cli import INTERRUPTED, say
from relay.cli.engine_journals import cluster_option, engine_url
from relay.cli.options import LogFormat, level_option, log_format_option, read_speed
from relay.cli.printing import WAITING, taken
from relay.cli.running import run
from relay.events import Level
from relay.journal.sqlite import stored_records
from sinks import ConsoleSink

__all__ = ["Pace", "replay"]


def _pace(text: str) -> float:
    return 0.0 if text == "0" else read_speed(text)


@click.command
@click.argument("journal")
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
@cluster_option
@log_format_option
@level_option()
def replay(
    journal: str, jobs: tuple[str, ...], speed: float, cluster: str, log_format: LogFormat | None, level: Level
) -> int:
    """Print the records of JOURNAL again, the file of a relay such as relay.db, in their own time.

    The journal of several nodes is named by the address of its server, redis://HOST, or by env:NAME. It is only read;
    the relay may go on meanwhile. A record that cannot be read is left out, with a notice.
    """
    records = _records(journal, jobs or None, cluster)
    with _ending_with_its_reader():
        return run(partial(_replay, records, speed, ConsoleSink(format=log_format, level=level)))


async def _records(journal: str, jobs: Collection[str] | None, cluster: str) -> AsyncGenerator[Record]:
    if (url := engine_url(journal)) is not None:
        from relay.journal.redis.reading import stored_records as records_at

        async with aclosing(records_at(url, jobs, name=cluster, notify=say)) as found:
            async for record in found:
                yield record
        return
    with closing(stored_records(Path(journal), jobs, notify=say)) as records:
        for record in records:
            yield record


async def _replay(records: AsyncGenerator[Record], speed: float, console: ConsoleSink, stop: asyncio.Event) -> int:
    pace = Pace(speed)
    async with console:
        try:
            async with aclosing(records):
                async for record in records:
                    await _wait(stop, pace.pause(record))
                    await taken(console, WAITING, stop)
                    if stop.is_set():
                        return INTERRUPTED
                    console(record)
        finally:
            await taken(console, 0, stop)
    return 0


class Pace:
    """The seconds to wait before each record: as it was, *speed* times as fast, or not at all for 0."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._before: datetime | None = None

    def pause(self, record: Record) -> float:
        """The seconds between *record* and the one before it."""
        passed = (record.at - self._before).total_seconds() if self._before is not None else 0.0
        self._before = record.at
        return max(passed, 0.0) / self._speed if self._speed else 0.0


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
