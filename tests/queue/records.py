"""Records for queues, without a bus."""

from datetime import UTC, datetime

from relay.events import Event, Log, Position, Progress, Record
from relay.wire.record_json import stamp

__all__ = ["log", "progress", "record"]


def record(number: int, event: Event, job: str = "job_a") -> Record:
    return stamp(job, number, datetime(2026, 1, 1, tzinfo=UTC), event, Position("e", number))


def log(number: int, job: str = "job_a", words: str = "a line") -> Record:
    return record(number, Log(line=f"{words} {number}"), job)


def progress(number: int, job: str = "job_a") -> Record:
    return record(number, Progress(percent=number % 100, status="running"), job)
