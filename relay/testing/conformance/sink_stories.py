"""Events whose texts hold a mark, so that a record is found again in any output."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Final

from relay.events import Accepted, Cancelled, Done, Event, Failed, Level, Log, Position, Progress, Record
from relay.testing.conformance.read_back import mark_of
from relay.wire.record_json import stamp

__all__ = ["ENDS", "FLOOD", "accepted", "cancelled", "done", "failed", "flood", "log", "monotonous_flood", "progress"]

FLOOD: Final = 12_000
"""The records of a flood: more than `sinks.Queued` holds by default."""

_BEYOND: Final = 5_000_000
"""Marks from here on are of a flood."""

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def accepted(mark: str) -> Event:
    """A job's first record."""
    return Accepted(upstream="check", task=mark)


def progress(percent: int) -> Callable[[str], Event]:
    """Progress of a job that runs, with news in each record."""
    return lambda mark: Progress(percent=min(99, percent), status="running", raw_status=mark, source="reported")


def log(level: Level) -> Callable[[str], Event]:
    """A line of the upstream's log."""
    return lambda mark: Log(line=mark, severity=level)


def done(mark: str) -> Event:
    """A success; its level is the lowest of all ends."""
    return Done(result=mark)


def failed(mark: str) -> Event:
    """A failure."""
    return Failed(kind="upstream", message=mark)


def cancelled(mark: str) -> Event:
    """A job that was called off."""
    return Cancelled(message=mark)


ENDS: Final = (done, failed, cancelled)


@cache
def flood() -> tuple[Record, ...]:
    """A job with progress in every record, each with a mark of its own. Made once: it takes a tenth of a second."""
    return tuple(_stamped("job_check_flood", number, progress(number % 100)) for number in range(1, FLOOD + 1))


@cache
def monotonous_flood() -> tuple[Record, ...]:
    """A job that says the same for long, without marks; a few warnings and its end have marks."""
    job = "job_check_monotonous"
    records = [_stamped(job, number, log("warning") if number % 4_000 == 1 else _same) for number in range(1, FLOOD)]
    return (*records, _stamped(job, FLOOD, done))


def _stamped(job: str, number: int, event: Callable[[str], Event]) -> Record:
    return stamp(job, number, _AT, event(mark_of(_BEYOND + number)), Position("check", _BEYOND + number))


def _same(_: str) -> Event:
    return Progress(percent=50, status="running", raw_status="running", source="reported")
