"""`relay audit`: whether recordings hold the same story."""

import asyncio
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from relay import Record, UsageError
from relay.audit.compare import Verdict
from relay.audit.compare import audit as compare
from relay.audit.recordings import lines_of
from relay.cli import INTERRUPTED, say
from relay.cli.engine_journals import cluster_option, engine_url
from relay.cli.running import run
from relay.text import inert

__all__ = ["audit"]


class _Journal(NamedTuple):
    """What a journal at a server holds: its records as lines in a file, and what is wrong with it."""

    place: str
    lines: BinaryIO
    records: int
    jobs: int
    findings: tuple[str, ...]


@click.command
@click.argument("recordings", metavar="RECORDING...", nargs=-1)
@click.option(
    "--job", "jobs", metavar="JOB", multiple=True, help="Compare this job alone; may be given more than once."
)
@cluster_option
def audit(recordings: tuple[str, ...], jobs: tuple[str, ...], cluster: str) -> int:
    """Prove that recordings hold the same story, or show where they differ.

    A RECORDING is what a sink wrote: the console's JSON lines, or the bytes of an SSE stream, a chat too
    (curl -sN URL > FILE). The journal of several nodes is one as well, by the address of its server, redis://HOST, or
    by env:NAME; it is examined by itself: holes, records of an owner that had lost its lease, states that do not fit.
    Status 0 when all hold the same records in the same order and words, 1 when not: then each finding is one line.
    """
    with ExitStack() as stack:
        journals: dict[str, _Journal] = {}
        for argument in recordings:
            if (url := engine_url(argument)) is not None:
                lines = stack.enter_context(tempfile.TemporaryFile())
                status = run(partial(_examine, url, cluster, lines, journals, argument))
                if status:
                    return status
        wrong = [f"{one.place}: {finding}" for one in journals.values() for finding in one.findings]
        said = [_agreement(one) for one in journals.values() if not one.findings]
        if len(recordings) != 1 or not journals:
            verdict = compare([_opened(argument, journals) for argument in recordings], jobs=set(jobs) or None)
            (said if verdict.same else wrong).extend(_report(verdict))
    for line in wrong or said:
        click.echo(inert(line))
    return 1 if wrong else 0


async def _examine(
    url: str, cluster: str, lines: BinaryIO, journals: dict[str, _Journal], argument: str, stop: asyncio.Event
) -> int:
    """Read a journal into *lines*, and note what is wrong with it; the exit status if that was interrupted."""
    from relay.journal.redis.checking import check
    from relay.journal.redis.reading import reading

    def keep(record: Record) -> None:
        lines.write(record.json + b"\n")

    async with reading(url, cluster) as journal:
        checking = asyncio.create_task(check(journal, each=keep, notify=say))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((checking, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not checking.done():
            checking.cancel()
            await asyncio.wait([checking])
            return INTERRUPTED
        found = checking.result()
        further = (f"... and {_count(found.further, 'more finding')}",) if found.further else ()
        findings = found.findings + further
        journals[argument] = _Journal(str(journal.place), lines, found.records, found.jobs, findings)
    return 0


def _opened(argument: str, journals: dict[str, _Journal]) -> tuple[str, Iterable[bytes]]:
    """The name of a recording, and its lines."""
    if (journal := journals.get(argument)) is None:
        return argument, _lines(Path(argument))
    journal.lines.seek(0)
    return journal.place, lines_of(journal.lines)


def _agreement(journal: _Journal) -> str:
    records, jobs = _count(journal.records, "record"), _count(journal.jobs, "job")
    return f"{journal.place} holds {jobs}, {records} without a hole, each of the owner of its job"


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from lines_of(file)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}") from None


def _report(verdict: Verdict) -> list[str]:
    if verdict.same:
        records, jobs = _count(verdict.records, "record"), _count(verdict.jobs, "job")
        above = f" of level {verdict.level} and above, as one holds no others" if verdict.level != "debug" else ""
        return [f"{verdict.recordings} recordings hold the same story: {jobs}, {records}{above}"]
    further = [f"... and {_count(verdict.further, 'more finding')}"] if verdict.further else []
    return [*verdict.findings, *further]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
