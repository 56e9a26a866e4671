"""What a job is, as a pure fold of its records: no I/O, no clock of its own.

A job's state is the fold of its records and of nothing else, so a journal is all that a restart needs.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from relay.errors import UsageError
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
    Received,
    Record,
    Retrying,
    Stalled,
    Status,
    Terminal,
)
from relay.jobs.eta import Mark, marked
from relay.jobs.rhythm import Rhythm
from relay.text import well_formed

__all__ = [
    "Job",
    "JobState",
    "Snapshot",
    "checked_owner",
    "elapsed",
    "evolve",
    "held_off",
    "moves",
    "recall",
    "repeats",
]

BELIEVED: Final = timedelta(days=1)
"""The longest time between two records that is believed: a longer one, or one below 0, is a clock that was set."""

WATCHED: Final = 30.0
"""The most seconds between two records that count as time in which a job was looked for, and not found."""

_NONE: Final = timedelta(0)

_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

MAX_OWNER: Final = 256
"""The most characters of the name of an owner."""


class JobState(Struct, frozen=True, kw_only=True, gc=False):
    """The state of a job: the fold of its records.

    *seq* and *offset* are those of the newest record; a state that was stored by 0.2.0 or before has no offset: 0.

    *logged* is how many lines of the upstream's log are published, and *warned* which warnings.

    *reckoned* is the time by the story's own clock, which passes over what the time of day cannot have done: it is
    *started*, and the time between each two records that is BELIEVED. *entered* is when by that clock the job came to
    its present status, *marks* when each figure was first shown. *absent* is for how many seconds the job, or its
    result, has been missed. *looks* is how many looks for the result were answered, the one under way (*looking*)
    counted.

    *shown*: the newest record about the polls is progress, which the next one may repeat; behind a failed poll or a
    look for the result, any progress is news. *regressed*: it was published since the job moved that the upstream went
    back. *retry_at* is when the next poll is due after one that failed, by the story's own clock, until it begins.
    """

    upstream: str = ""
    task: str | None = None
    seq: int = 0
    offset: int = 0
    status: Status = "queued"
    raw_status: str | None = None
    percent: int | None = None
    queue_position: int | None = None
    text: str = ""
    attempt: int = 0
    followed: bool = False
    seen: bool = False
    misses: int = 0
    fetches: int = 0
    looks: int = 0
    looking: bool = False
    absent: float = 0.0
    logged: int = 0
    warned: tuple[str, ...] = ()
    shown: bool = False
    regressed: bool = False
    started: datetime | None = None
    updated: datetime | None = None
    reckoned: datetime | None = None
    retry_at: datetime | None = None
    entered: datetime | None = None
    rhythm: Rhythm = Rhythm()
    marks: tuple[Mark, ...] = ()
    terminal: Terminal | None = None

    @property
    def ended(self) -> bool:
        """Whether the terminal record is among them; none can follow."""
        return self.terminal is not None


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
    """One job, from `accepted` to its end.

    Its *state* is what has been published: the bus, and nothing else, replaces it once a record is committed. Its owner
    is no part of the state, and so of no record and no snapshot: readers of a job need not know whose it is.
    """

    __slots__ = ("__weakref__", "_owner", "id", "state")

    def __init__(self, id: str, state: JobState | None = None, owner: str = "") -> None:
        """Raises UsageError where *id* is not 1 to 128 letters, digits, `.`, `_` or `-`: it is printed as it is.

        Raises UsageError also for an *owner* that is none: see `checked_owner`.
        """
        if not _JOB_ID.fullmatch(id):
            raise UsageError("a job id is 1 to 128 letters, digits, '.', '_' or '-'")
        self._owner = checked_owner(owner)
        self.id: str = id
        self.state: JobState = state or JobState()

    @property
    def owner(self) -> str:
        """Whose job this is, from its admission to the end; empty where it is nobody's. The text has no meaning here.

        It serves decisions on access, and no reader is shown it.
        """
        return self._owner

    @property
    def ended(self) -> bool:
        """Whether the job's terminal record has been published."""
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


def checked_owner(owner: str) -> str:
    """*owner*, if it can be one: up to 256 characters, each of which a file can hold. Raises UsageError.

    The message leaves the text out: it may be somebody's name.
    """
    # A lone surrogate has no UTF-8, and programs in C end a text at NUL: two owners must never look like one.
    if not (len(owner) <= MAX_OWNER and "\0" not in owner and well_formed(owner) == owner):
        raise UsageError(f"an owner is a text of at most {MAX_OWNER} characters, in UTF-8 and without NUL")
    return owner


def evolve(state: JobState, record: Record, text: str | None = None) -> JobState:
    """What a job has become, now that *record* is part of its story.

    Its text is that of its newest record above `debug`: a stream of any other level then shows the same. *text* is that
    of *record*, where the caller has it at hand.
    """
    event, at = record.event, record.at
    if event.level == "debug":
        text = state.text
    elif text is None:
        text = event.text
    passed = _believed(state, at)
    reckoned = (state.reckoned or state.updated or at) + passed
    missing = state.misses or state.fetches
    numbered = replace(
        state,
        seq=record.seq,
        offset=record.position.offset,
        text=text,
        absent=state.absent + min(passed.total_seconds(), WATCHED) if missing else 0.0,
        started=state.started or at,
        updated=at,
        reckoned=reckoned,
    )
    return _changed(numbered, event, reckoned)


def elapsed(state: JobState, now: datetime) -> float:
    """For how many seconds a job has been running at *now*, a time of day which may have been set meanwhile."""
    reckoned = state.reckoned or state.updated
    if reckoned is None or state.started is None:
        return 0.0
    return max(0.0, (reckoned + _believed(state, now) - state.started).total_seconds())


def held_off(state: JobState, now: datetime) -> float:
    """For how many more seconds the job's last failed poll puts off the next one; 0 for a job that is not held off."""
    if state.retry_at is None or state.reckoned is None:
        return 0.0
    return max(0.0, (state.retry_at - state.reckoned - _believed(state, now)).total_seconds())


def _believed(state: JobState, now: datetime) -> timedelta:
    """The time since the last record, if the clocks of both can be believed."""
    passed = now - state.updated if state.updated is not None else _NONE
    return passed if _NONE <= passed <= BELIEVED else _NONE


def _changed(state: JobState, event: Event, at: datetime) -> JobState:
    """The changes of a job that *event* alone makes.

    Named one by one, and at most fourteen at once: from a dict, or with more names, which Python makes a dict of,
    `replace` takes four times as long. Two short calls of it cost 0.45 us, and one with all the names 0.95.
    """
    # The events of a poll come first, and without patterns: each costs 0.1 us, whether it matches or not.
    if isinstance(event, Progress):
        return _moved_on(state, event, at) if event.listed else replace(state, misses=state.misses + 1, shown=True)
    if isinstance(event, Received):
        return state
    if isinstance(event, Checking):
        return replace(state, attempt=event.attempt, looking=False, retry_at=None)
    if isinstance(event, Log):
        if event.severity == "warning":
            return replace(state, warned=(*state.warned, event.line))
        return replace(state, logged=max(state.logged, event.number or 0), rhythm=state.rhythm.alive(at))
    match event:
        case Accepted(upstream=upstream, task=task):
            return replace(state, upstream=upstream, task=task, followed=task is not None and state.seq == 1)
        case DraftsFetch(attempt=attempt, listed=listed):
            seen, misses, looks = state.seen or listed, state.misses + (not listed), state.looks + 1
            return replace(state, fetches=attempt, looks=looks, looking=True, seen=seen, misses=misses, shown=False)
        case Retrying(next_in=next_in):
            retry_at, looks = at + timedelta(seconds=next_in), state.looks - state.looking
            return replace(state, looks=looks, looking=False, shown=False, retry_at=retry_at)
        case Stalled():
            return replace(state, rhythm=replace(state.rhythm, stalled=True))
        case Done():
            return replace(state, status="succeeded", percent=100, terminal=event)
        case Failed():
            return replace(state, status="failed", terminal=event)
        case Cancelled():
            return replace(state, status="cancelled", terminal=event)


def _moved_on(state: JobState, event: Progress, at: datetime) -> JobState:
    """What a job has become that was listed; each status has a rhythm of its own."""
    status, percent = event.status, event.percent
    moved = moves(state, event)
    anew = not state.seen or status != state.status
    rhythm = state.rhythm.moved(at) if moved else state.rhythm.stayed()
    return replace(
        state,
        status=status,
        raw_status=event.raw_status,
        percent=percent,
        queue_position=event.queue_position,
        seen=True,
        misses=0,
        fetches=0,
        looks=0,
        absent=0.0,
        shown=True,
        regressed=event.regressed or (state.regressed and not moved),
        entered=at if anew else state.entered,
        rhythm=Rhythm(since=at) if anew else rhythm,
        marks=marked(state.marks, at, percent) if percent is not None and percent != state.percent else state.marks,
    )


def moves(state: JobState, event: Progress) -> bool:
    """Whether *event* shows the job elsewhere than it stood."""
    return (
        event.percent != state.percent or event.status != state.status or event.queue_position != state.queue_position
    )


def repeats(state: JobState, event: Progress) -> bool:
    """Whether *event* says nothing that a reader of the job's records does not know already.

    The time left is no news: an estimate differs at each poll. A state in the upstream's own word is, as the text has
    it; so is whether the job is listed, once it changes, and that the upstream went back, once until the job moves.
    """
    if not state.shown or event.listed != (state.misses == 0):
        return False
    went_back = event.regressed and not state.regressed
    return not went_back and event.raw_status == state.raw_status and not moves(state, event)


def recall(records: Iterable[Record]) -> JobState:
    """The state that a job's *records* add up to."""
    return reduce(evolve, records, JobState())
