"""A job as a video: the object that clients of OpenAI's `/v1/videos` read, and when they poll it again. No I/O.

[measured] The SDKs' `create_and_poll` returns at once for any status but `queued` and `in_progress`, so each state of a
job is one of four words. Its only poll interval is that of the first answer.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from relay import Cancelled, Done, Failed, Job, JobState, Pace
from sinks.answers import failure_code

__all__ = ["VideoDetails", "poll_after_ms", "seconds_of", "video_object", "video_status"]

SOONEST: Final = 0.2
LATEST: Final = 5.0
"""Seconds: the bounds of the wait between two polls. A poll costs no request to the upstream, so it may come early."""


class VideoDetails(Struct, frozen=True, kw_only=True):
    """What a request named beside its prompt. *seconds* is text in this dialect, as *size* is."""

    model: str
    seconds: str | None = None
    size: str | None = None


def video_status(state: JobState) -> str:
    """The state as one of `queued`, `in_progress`, `completed` and `failed`.

    A job is over with its terminal record alone: until then an upstream's word for an end is work in progress, such as
    the search for a result.
    """
    match state.terminal:
        case Done():
            return "completed"
        case Failed() | Cancelled():
            return "failed"
        case None:
            return "queued" if state.status == "queued" else "in_progress"


def video_object(job: Job, details: VideoDetails) -> dict[str, Any]:
    """The video that *job* makes; its id is the job's own. Times are in whole seconds since 1970."""
    state = job.state
    done = state.terminal if isinstance(state.terminal, Done) else None
    return {
        "id": job.id,
        "object": "video",
        "created_at": seconds_of(state.started) or 0,
        "completed_at": seconds_of(state.updated) if done is not None else None,
        "expires_at": seconds_of(done.expires) if done is not None else None,
        "status": video_status(state),
        "model": details.model,
        "progress": state.percent or 0,
        "seconds": details.seconds,
        "size": details.size,
        "error": _error(state),
        "remixed_from_video_id": None,
    }


def poll_after_ms(state: JobState, pace: Pace | None) -> int | None:
    """The milliseconds after which a client polls again: when the job is likely to have moved. None for an ended job.

    The job's own rhythm is counted in answers of the upstream, which come at *pace*.
    """
    if state.ended:
        return None
    interval = pace.interval if pace is not None else LATEST
    rhythm = state.rhythm
    usual = _median(rhythm.gaps) if rhythm.gaps else 1
    seconds = interval * max(1, usual - rhythm.still)
    return round(1_000 * min(max(SOONEST, seconds), LATEST))


def _median(numbers: Sequence[int]) -> float:
    """As `statistics.median` has it, whose import costs as much as eight of our modules."""
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _error(state: JobState) -> dict[str, str] | None:
    terminal = state.terminal
    if terminal is None or isinstance(terminal, Done):
        return None
    return {"code": failure_code(terminal), "message": terminal.message or terminal.text}


def seconds_of(at: datetime | None) -> int | None:
    """*at* in whole seconds since 1970."""
    return int(at.timestamp()) if at is not None else None
