"""The life of a job, as pure functions: no I/O, no clock.

`decide_*` says which events follow from what the upstream said; `evolve` says what a job has become after a record.
A job's state is the fold of its records and of nothing else, so a journal is all that a restart needs.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from functools import reduce

from msgspec import Struct
from msgspec.structs import replace

from relay.errors import UsageError
from relay.eta import Left, Mark, left, marked
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
    Stalled,
    Status,
    Terminal,
)
from relay.observations import Observation, Result
from relay.rhythm import Rhythm

__all__ = ["Job", "JobState", "Patience", "Snapshot", "decide_fetched", "decide_listed", "evolve", "recall"]

MISSES_BEFORE_FETCH = 2
"""A job left the pending list when two answers in a row did not mention it: one may be a race (upstreams.md, 2.3)."""

_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

LOG_LIMIT = 500
"""The most lines of a log that one answer leads to, the newest: one wordy job must not push out the others' records."""

WARNINGS_LIMIT = 8
"""The most different warnings that are told of one job."""

URL_LIMIT = 4_096
URLS_LIMIT = 32


class Patience(Struct, frozen=True, kw_only=True):
    """How many answers in a row may leave a job out, before the relay concludes something from it.

    *unseen*: until a job that was never listed is looked for among the results (it may have ended before we asked).
    *grace*: from the first fetch of a result on, until the job is given up as lost.
    """

    unseen: int = 12
    grace: int = 24


class JobState(Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a job: the fold of its records.

    *logged* is how many lines of the upstream's log were told, and *warned* which warnings. *entered* is when it
    came to its present status, *marks* when each figure was first shown.
    """

    upstream: str = ""
    task: str | None = None
    seq: int = 0
    status: Status = "queued"
    raw_status: str | None = None
    percent: int | None = None
    queue_position: int | None = None
    text: str = ""
    attempt: int = 0
    seen: bool = False
    misses: int = 0
    fetches: int = 0
    logged: int = 0
    warned: tuple[str, ...] = ()
    started: datetime | None = None
    updated: datetime | None = None
    entered: datetime | None = None
    rhythm: Rhythm = Rhythm()
    marks: tuple[Mark, ...] = ()
    terminal: Terminal | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """Where a job stands, in one small object."""

    job: str
    upstream: str
    task: str | None
    status: Status
    percent: int | None
    text: str
    seq: int
    started: datetime | None
    updated: datetime | None
    terminal: Terminal | None


class Job:
    """One job, from `accepted` to its end. Its *state* is replaced with every record, by the bus and nobody else."""

    __slots__ = ("__weakref__", "id", "state")

    def __init__(self, id: str, state: JobState | None = None) -> None:
        """Raises UsageError where *id* is not 1 to 128 letters, digits, `.`, `_` or `-`: it is printed as it is."""
        if not _JOB_ID.fullmatch(id):
            raise UsageError("a job id is 1 to 128 letters, digits, '.', '_' or '-'")
        self.id = id
        self.state = state or JobState()

    @property
    def ended(self) -> bool:
        """Whether the job has its terminal record; none can follow."""
        return self.state.terminal is not None

    def snapshot(self) -> Snapshot:
        """Where the job stands now."""
        state = self.state
        return Snapshot(
            job=self.id,
            upstream=state.upstream,
            task=state.task,
            status=state.status,
            percent=state.percent,
            text=state.text,
            seq=state.seq,
            started=state.started,
            updated=state.updated,
            terminal=state.terminal,
        )

    def __repr__(self) -> str:
        return f"<Job {self.id} seq {self.state.seq} {self.state.status}>"


def evolve(state: JobState, record: Record) -> JobState:
    """What a job has become, now that *record* is part of its story."""
    event, at = record.event, record.at
    told = replace(state, seq=record.seq, updated=at, started=state.started or at, text=event.text)
    return _changed(told, event, at)


def _changed(state: JobState, event: Event, at: datetime) -> JobState:
    """What *event* alone changes of a job. Named one by one: from a dict, `replace` takes four times as long."""
    match event:
        case Accepted(upstream=upstream, task=task):
            return replace(state, upstream=upstream, task=task)
        case Checking(attempt=attempt):
            return replace(state, attempt=attempt)
        case Progress(listed=True):
            return _moved_on(state, event, at)
        case Progress():
            return replace(state, misses=state.misses + 1)
        case DraftsFetch(attempt=attempt, listed=listed):
            return replace(state, fetches=attempt, seen=state.seen or listed, misses=state.misses + (not listed))
        case Stalled():
            return replace(state, rhythm=replace(state.rhythm, stalled=True))
        case Log(severity="warning", line=line):
            return replace(state, warned=(*state.warned, line))
        case Log(number=number):
            return replace(state, logged=max(state.logged, number or 0), rhythm=state.rhythm.alive(at))
        case Done():
            return replace(state, status="succeeded", percent=100, terminal=event)
        case Failed():
            return replace(state, status="failed", terminal=event)
        case Cancelled():
            return replace(state, status="cancelled", terminal=event)
        case _:
            return state


def _moved_on(state: JobState, event: Progress, at: datetime) -> JobState:
    """What a job has become that was listed; each status has a rhythm of its own."""
    anew = not state.seen or event.status != state.status
    advanced = event.percent is not None and event.percent != state.percent
    rhythm = state.rhythm.moved(at) if _moves(state, event) else state.rhythm.stayed()
    return replace(
        state,
        status=event.status,
        raw_status=event.raw_status,
        percent=event.percent,
        queue_position=event.queue_position,
        seen=True,
        misses=0,
        fetches=0,
        entered=at if anew else state.entered,
        rhythm=Rhythm(since=at) if anew else rhythm,
        marks=marked(state.marks, at, event.percent) if advanced and event.percent is not None else state.marks,
    )


def _moves(state: JobState, event: Progress) -> bool:
    return (event.status, event.percent, event.queue_position) != (state.status, state.percent, state.queue_position)


def recall(records: Iterable[Record]) -> JobState:
    """The state that a job's *records* add up to."""
    return reduce(evolve, records, JobState())


def decide_listed(
    state: JobState, seen: Observation | None, patience: Patience, *, two_step: bool
) -> tuple[Event, ...]:
    """The events that follow from an answer about the jobs at work; *seen* is None where it left this job out.

    *two_step* upstreams keep results elsewhere: a `drafts-fetch` among the events asks for that look.
    """
    if seen is None:
        return (_not_listed(state, patience, two_step=two_step),)
    log = _log(state, seen)
    if (end := _end(seen)) is not None:
        return (*log, end)
    if seen.status == "succeeded" and two_step:
        return (*log, DraftsFetch(attempt=state.fetches + 1, listed=True))
    progress = _progress(state, seen)
    return (*log, progress, *_stall(state, progress, seen))


def decide_fetched(state: JobState, found: Observation | None, patience: Patience) -> tuple[Event, ...]:
    """The events that follow from a look for the result; *found* is None where it is not there (yet)."""
    if found is not None:
        log = _log(state, found)
        end = _end(found)
        return (*log, end) if end is not None else log
    if state.fetches > patience.grace:
        return (_lost(state),)
    return ()


def _not_listed(state: JobState, patience: Patience, *, two_step: bool) -> Event:
    misses = state.misses + 1
    needed = MISSES_BEFORE_FETCH if state.seen else patience.unseen
    if two_step and misses >= needed:
        return DraftsFetch(attempt=state.fetches + 1)
    if misses > needed + patience.grace:
        return _lost(state)
    return Progress(percent=state.percent, status=state.status, raw_status=state.raw_status, listed=False)


def _log(state: JobState, seen: Observation) -> tuple[Log, ...]:
    """The warning and the lines that were not told yet; without numbers, all lines that came."""
    warning = seen.warning
    if warning is None or warning in state.warned or len(state.warned) >= WARNINGS_LIMIT:
        return _lines(state, seen)
    return (Log(line=warning, severity="warning"), *_lines(state, seen))


def _lines(state: JobState, seen: Observation) -> tuple[Log, ...]:
    if seen.log_offset is None:
        return tuple(Log(line=line) for line in seen.log[-LOG_LIMIT:])
    numbered = zip(range(seen.log_offset + 1, seen.log_offset + len(seen.log) + 1), seen.log, strict=True)
    new = [(number, line) for number, line in numbered if number > state.logged]
    return tuple(Log(line=line, number=number) for number, line in new[-LOG_LIMIT:])


def _progress(state: JobState, seen: Observation) -> Progress:
    """Progress as reported, except that a figure once shown is never taken back."""
    shown, reported = state.percent, seen.percent
    regressed = shown is not None and reported is not None and reported < shown
    percent = shown if reported is None or regressed else reported
    rest = _left(state, percent) if seen.eta is None and seen.status == "running" else None
    return Progress(
        percent=percent,
        status=seen.status,
        raw_status=seen.raw_status,
        source=seen.source,
        queue_position=seen.queue_position,
        eta=rest.likely if rest else seen.eta,
        eta_low=rest.low if rest else None,
        eta_high=rest.high if rest else None,
        regressed=regressed,
        raw_percent=str(reported) if regressed and seen.raw_percent is None else seen.raw_percent,
    )


def _left(state: JobState, percent: int | None) -> Left | None:
    """What is left by the job's own pace, its figure of this answer counted; *updated* is when the answer came."""
    if (now := state.updated) is None or percent is None:
        return None
    return left(state.marks if percent == state.percent else marked(state.marks, now, percent), now)


def _stall(state: JobState, progress: Progress, seen: Observation) -> tuple[Stalled, ...]:
    """Said once, when a movement is overdue by the job's own rhythm."""
    rhythm = state.rhythm
    if seen.log or rhythm.stalled or _moves(state, progress) or not rhythm.stayed().overdue:
        return ()
    now = state.updated
    return (Stalled(seconds=max(0.0, (now - rhythm.since).total_seconds()) if now and rhythm.since else 0.0),)


def _end(seen: Observation) -> Terminal | None:
    if (failure := seen.failure) is not None:
        if failure.kind == "cancelled":
            return Cancelled(by="upstream", message=failure.message)
        return Failed(kind=failure.kind, message=failure.message, retryable=failure.retryable)
    return _done(seen.result) if seen.result is not None else None


def _done(result: Result) -> Terminal:
    if not result.urls:
        return Failed(kind="malformed", message="the upstream says it is finished, but names no file")
    if len(result.urls) > URLS_LIMIT or any(len(url) > URL_LIMIT for url in result.urls):
        return Failed(
            kind="malformed",
            message=f"the result is over the limits of {URLS_LIMIT} URLs of {URL_LIMIT:,} characters each",
        )
    return Done(urls=result.urls, media_types=result.media_types, expires=result.expires)


def _lost(state: JobState) -> Failed:
    where = "left the list of pending jobs" if state.seen else "was never listed as pending"
    return Failed(kind="lost", message=f"the job {where}, and no result has appeared", retryable=False)
