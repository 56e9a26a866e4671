"""`relay audit`: whether recordings hold the same story."""

from collections.abc import Iterator
from pathlib import Path

import click

from relay import UsageError
from relay.audit.compare import Verdict
from relay.audit.compare import audit as compare
from relay.audit.recordings import lines_of
from relay.text import inert

__all__ = ["audit"]


@click.command
@click.argument("recordings", metavar="RECORDING RECORDING...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--job", "jobs", metavar="JOB", multiple=True, help="Compare this job alone; may be given more than once."
)
def audit(recordings: tuple[Path, ...], jobs: tuple[str, ...]) -> int:
    """Prove that recordings hold the same story, or show where they differ.

    A RECORDING is what a sink wrote: the console's JSON lines, or the bytes of an SSE stream, a chat too
    (curl -sN URL > FILE).
    Status 0 when all hold the same records in the same order and words, 1 when not: then each finding is one line.
    """
    verdict = compare([(str(path), _lines(path)) for path in recordings], jobs=set(jobs) or None)
    for line in _report(verdict):
        click.echo(inert(line))
    return 0 if verdict.same else 1


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
