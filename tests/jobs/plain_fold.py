"""The fold of a job's records, written plainly: the specification of `relay.jobs.state.evolve`, which is written for
speed. Each event names what it changes, in one step behind what every record changes.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from relay.events import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Log,
    Progress,
    Record,
    Retrying,
    Stalled,
)
from relay.jobs import JobState
from relay.jobs.rhythm import Rhythm

__all__ = ["plainly_evolved"]

_DAY: Final = timedelta(days=1)
_REMEMBERED: Final = 8


def plainly_evolved(state: JobState, record: Record) -> JobState:
    """The state of a job, now that *record* is part of its story."""
    event, at = record.event, record.at
    passed = at - (state.updated or at)
    if not timedelta(0) <= passed <= _DAY:
        passed = timedelta(0)
    reckoned = (state.reckoned or state.updated or at) + passed
    missing = state.misses > 0 or state.fetches > 0
    state = replace(
        state,
        seq=record.seq,
        offset=record.position.offset,
        updated=at,
        reckoned=reckoned,
        started=state.started or at,
        text=state.text if event.level == "debug" else event.text,
        absent=state.absent + min(passed.total_seconds(), 30.0) if missing else 0.0,
    )
    return replace(state, **_changes(state, event, reckoned))


def _changes(state: JobState, event: Event, at: datetime) -> dict[str, Any]:
    match event:
        case Accepted():
            followed = event.task is not None and state.seq == 1
            return {"upstream": event.upstream, "task": event.task, "followed": followed}
        case Checking():
            return {"attempt": event.attempt, "looking": False, "retry_at": None}
        case Progress() if not event.listed:
            return {"misses": state.misses + 1, "shown": True}
        case Progress():
            return _listed(state, event, at)
        case DraftsFetch():
            return {
                "fetches": event.attempt,
                "looks": state.looks + 1,
                "looking": True,
                "seen": state.seen or event.listed,
                "misses": state.misses if event.listed else state.misses + 1,
                "shown": False,
            }
        case Retrying():
            looks = state.looks - 1 if state.looking else state.looks
            retry_at = at + timedelta(seconds=event.next_in)
            return {"looks": looks, "looking": False, "shown": False, "retry_at": retry_at}
        case Stalled():
            return {"rhythm": replace(state.rhythm, stalled=True)}
        case Log(severity="warning"):
            return {"warned": (*state.warned, event.line)}
        case Log():
            rhythm = replace(state.rhythm, since=at, still=0, stalled=False)
            return {"logged": max(state.logged, event.number or 0), "rhythm": rhythm}
        case Done():
            return {"status": "succeeded", "percent": 100, "terminal": event}
        case Failed():
            return {"status": "failed", "terminal": event}
        case Cancelled():
            return {"status": "cancelled", "terminal": event}
        case _:
            return {}


def _listed(state: JobState, event: Progress, at: datetime) -> dict[str, Any]:
    anew = not state.seen or event.status != state.status
    before = (state.status, state.percent, state.queue_position)
    moved = (event.status, event.percent, event.queue_position) != before
    changes: dict[str, Any] = {
        "status": event.status,
        "raw_status": event.raw_status,
        "percent": event.percent,
        "queue_position": event.queue_position,
        "seen": True,
        "misses": 0,
        "fetches": 0,
        "looks": 0,
        "absent": 0.0,
        "shown": True,
        "regressed": event.regressed or (state.regressed and not moved),
        "rhythm": _rhythm(state.rhythm, at, anew=anew, moved=moved),
    }
    if anew:
        changes["entered"] = at
    if event.percent is not None and event.percent != state.percent:
        marks = state.marks
        if marks and (marks[-1][0] >= at or marks[-1][1] >= event.percent):
            marks = ()
        changes["marks"] = (*marks, (at, event.percent))[-_REMEMBERED:]
    return changes


def _rhythm(rhythm: Rhythm, at: datetime, *, anew: bool, moved: bool) -> Rhythm:
    if anew:
        return Rhythm(since=at)
    if moved:
        return Rhythm(since=at, gaps=(*rhythm.gaps, rhythm.still + 1)[-_REMEMBERED:])
    return replace(rhythm, still=rhythm.still + 1)
