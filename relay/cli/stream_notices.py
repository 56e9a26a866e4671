"""What a stream says besides records, in words: one line each."""

from collections.abc import Mapping
from typing import Any, Final

from relay.text import bounded

__all__ = ["worded"]

JOBS_SHOWN: Final = 5
WORD_LIMIT: Final = 200


def worded(event: str, data: Mapping[str, Any]) -> str:
    """The notice called *event*. What is in *data* comes from outside, and may be anything."""
    match event, data:
        case "gap", {"missed": int(missed)}:
            return f"gap: {missed:,} records cannot be told: they are no longer kept"
        case "gap", _:
            return (
                "gap: a part of the story cannot be told, as the relay does not know the position it would go on from"
            )
        case "skipped", {"missed": int(missed)}:
            return f"skipped: {missed:,} of the records that come next are left out, as they were not taken in time"
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
