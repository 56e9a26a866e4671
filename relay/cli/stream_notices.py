"""The notices of a stream in words: one line each."""

from collections.abc import Mapping
from typing import Any, Final

from relay.text import bounded

__all__ = ["describe_notice"]

JOBS_SHOWN: Final = 5
WORD_LIMIT: Final = 200
LARGEST: Final = 2**53
"""The most records that can have been missed: a higher number counts nothing."""


def describe_notice(event: str, data: Mapping[str, Any]) -> str:
    """The notice called *event*, in words. *data* comes from outside, and may be anything."""
    match event, data:
        case "gap", {"missed": int(missed)} if 0 <= missed <= LARGEST:
            return f"gap: {missed:,} records are missing: they are no longer kept"
        case "gap", _:
            return "gap: a part of the story is missing, as the relay does not know the position to resume from"
        case "skipped", {"missed": int(missed)} if 0 <= missed <= LARGEST:
            return f"skipped: {missed:,} of the next records are left out, as this client did not read them in time"
        case "expiring", {"expires": str(end)}:
            return f"expiring: the access to this stream ends at {bounded(end, WORD_LIMIT)}"
        case "snapshot", {"jobs": list(jobs)}:  # pyright: ignore[reportUnknownVariableType]
            return f"snapshot: {_where_they_stand(jobs)}"  # pyright: ignore[reportUnknownArgumentType]
        case _, {"reason": str(reason)}:
            return f"{event}: {bounded(reason, WORD_LIMIT)}"
        case _:
            return event


def _where_they_stand(jobs: list[Any]) -> str:
    if not jobs:
        return "no job is known"
    shown = [_where_it_stands(job) for job in jobs[:JOBS_SHOWN]]
    further = [f"and {len(jobs) - JOBS_SHOWN:,} more"] if len(jobs) > JOBS_SHOWN else []
    return ", ".join([*shown, *further])


def _where_it_stands(job: Any) -> str:
    match job:
        case {"job": str(name), "status": str(status), "percent": int(percent)}:
            said = f"{name} {status} at {percent}%"
        case {"job": str(name), "status": str(status)}:
            said = f"{name} {status}"
        case _:
            said = "a job that cannot be read"
    return bounded(said, WORD_LIMIT)
