"""The life of a job, as pure functions: no I/O, no clock.

`decide_*` returns what follows from an answer of the upstream. What a job becomes with the records of that is the
business of `relay.jobs.state`.
"""

import math
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from relay.events import (
    Cancelled,
    DraftsFetch,
    Event,
    Failed,
    Log,
    Progress,
    Stalled,
)
from relay.jobs.eta import Left, left, marked
from relay.jobs.observations import Answer, Observation
from relay.jobs.outcome import outcome
from relay.jobs.state import JobState, moves, repeats

__all__ = ["Decision", "Patience", "decide_fetched", "decide_listed", "is_complete_for"]

MISSES_BEFORE_FETCH = 2
"""A job has left the pending list when two answers in a row do not mention it: one may be a race."""

WIDEST: Final = 3.0
"""An estimate is published if its high end is at most this many times its low end: a wider one says nothing."""

LOG_LIMIT = 500
"""The most lines of a log that one answer leads to, the newest: one wordy job must not push out the others' records."""

WARNINGS_LIMIT = 8
"""The most different warnings that are published of one job."""


class Patience(Struct, frozen=True, kw_only=True):
    """How many answers in a row may leave a job out, and for how many seconds, before something is concluded from it.

    Both must be reached: answers may come quickly, and time may pass without any.

    *unseen*: until a job that was never listed is looked for among the results (it may have ended before any poll).
    *grace*: from the first fetch of a result on, until the job is given up as lost. *settle_seconds* is for a job that
    was listed, until it counts as no longer listed. With *early* a task that was followed, and may have ended before,
    is looked for now and then from the first answer without it; that does not make it lost any sooner.
    """

    unseen: int = 12
    grace: int = 24
    unseen_seconds: float = 0.0
    grace_seconds: float = 0.0
    settle_seconds: float = 0.0
    early: bool = False


class Decision(Struct, frozen=True):
    """The consequences of one answer for one job.

    *events* are to be published in this order. With *fetch* the job's result is to be fetched after them. *eta* is in
    how many seconds the job is expected to end, None where that is not known.
    """

    events: tuple[Event, ...] = ()
    fetch: bool = False
    eta: float | None = None


def is_complete_for(state: JobState, answer: Answer) -> bool:
    """Whether *answer* would mention the job if its upstream had it: then its absence is a fact.

    A partial answer that holds all since some time is complete for a job that was listed as pending after that.
    """
    if not answer.partial:
        return True
    return answer.since is not None and state.seen and state.started is not None and state.started > answer.since


def decide_listed(
    state: JobState,
    seen: Observation | None,
    patience: Patience,
    *,
    two_step: bool,
    complete: bool = True,
    left: float = math.inf,
    overdue: bool = False,
    may_fetch: bool = True,
) -> Decision:
    """Decide what follows from an answer about pending jobs; *seen* is None if it left this job out.

    *two_step* upstreams keep results elsewhere: only there a decision says `fetch`, and only if *may_fetch*. An answer
    that is not *complete* for the job (`is_complete_for`) never ends it. *left* is how many seconds the job has until
    its deadline. If it is *overdue* and not listed, its result is fetched at once.
    """
    if seen is None:
        if two_step and may_fetch and (overdue or _is_to_be_looked_for(state, patience)):
            return Decision((DraftsFetch(attempt=state.fetches + 1),), fetch=True)
        return Decision((_not_listed(state, patience, may_be_lost=complete and not two_step),))
    log = _log(state, seen)
    if end := _end(seen):
        return Decision((*log, *end))
    if seen.status == "succeeded" and two_step and may_fetch:
        return Decision((*log, DraftsFetch(attempt=state.fetches + 1, listed=True)), fetch=True)
    progress = _progress(state, seen, left)
    return Decision((*log, progress, *_stall(state, progress, seen)), eta=progress.eta)


def decide_fetched(
    state: JobState, found: Observation | None, patience: Patience, *, complete: bool = True
) -> Decision:
    """Decide what follows from a look for the result; *found* is None if it is not there (yet).

    Unless this look and the answer before it were *complete* for the job, it does not end here.
    """
    if found is not None:
        return Decision((*_log(state, found), *_end(found)))
    _, seconds = _needed(state, patience)
    if complete and state.looks > patience.grace and state.absent >= seconds + patience.grace_seconds:
        return Decision((_lost(state),))
    return Decision()


def _needed(state: JobState, patience: Patience) -> tuple[int, float]:
    """How many answers in a row without the job, and how many seconds, make it one that is no longer listed."""
    if state.seen:
        return MISSES_BEFORE_FETCH, patience.settle_seconds
    return patience.unseen, patience.unseen_seconds


def _not_listed(state: JobState, patience: Patience, *, may_be_lost: bool) -> Event:
    misses = state.misses + 1
    answers, seconds = _needed(state, patience)
    if may_be_lost and misses > answers + patience.grace and state.absent >= seconds + patience.grace_seconds:
        return _lost(state)
    return _marked(
        state, Progress(percent=state.percent, status=state.status, raw_status=state.raw_status, listed=False)
    )


def _is_to_be_looked_for(state: JobState, patience: Patience) -> bool:
    """Whether a job that one more answer has left out may have ended: its result is looked for.

    A task that existed before its job may have ended before its first poll: it is looked for now and then meanwhile.
    """
    misses = state.misses + 1
    answers, seconds = _needed(state, patience)
    early = patience.early and state.followed and not state.seen and misses.bit_count() == 1
    return early or (misses >= answers and state.absent >= seconds)


def _log(state: JobState, seen: Observation) -> tuple[Log, ...]:
    """The warning and the lines that are not published yet; without numbers, all lines of the answer."""
    warning = seen.warning
    if warning is None or warning in state.warned or len(state.warned) >= WARNINGS_LIMIT:
        return _lines(state, seen)
    return (Log(line=warning, severity="warning"), *_lines(state, seen))


def _lines(state: JobState, seen: Observation) -> tuple[Log, ...]:
    if not seen.log:
        return ()
    if seen.log_offset is None:
        return tuple(Log(line=line) for line in seen.log[-LOG_LIMIT:])
    numbered = zip(range(seen.log_offset + 1, seen.log_offset + len(seen.log) + 1), seen.log, strict=True)
    new = [(number, line) for number, line in numbered if number > state.logged]
    return tuple(Log(line=line, number=number) for number, line in new[-LOG_LIMIT:])


def _progress(state: JobState, seen: Observation, allowed: float) -> Progress:
    """Progress as reported, except that a figure once shown never falls, and no estimate lies beyond the deadline.

    *allowed* is the seconds until then.
    """
    shown, reported = state.percent, seen.percent
    regressed = shown is not None and reported is not None and reported < shown
    percent = shown if reported is None or regressed else reported
    eta = seen.eta if seen.eta is not None and seen.eta <= allowed else None
    rest = _left(state, percent) if seen.eta is None and seen.status == "running" else None
    if rest is not None and (rest.likely > allowed or rest.high > WIDEST * rest.low):
        rest = None
    progress = Progress(
        percent=percent,
        status=seen.status,
        raw_status=seen.raw_status,
        source=seen.source,
        queue_position=seen.queue_position,
        eta=rest.likely if rest else eta,
        eta_low=rest.low if rest else None,
        eta_high=rest.high if rest else None,
        regressed=regressed,
        raw_percent=str(reported) if regressed and seen.raw_percent is None else seen.raw_percent,
    )
    return _marked(state, progress)


def _marked(state: JobState, progress: Progress) -> Progress:
    """*progress*, as unchanged if it repeats what is known of the job: its level is part of its record, everywhere."""
    if repeats(state, progress):
        force_setattr(progress, "unchanged", True)  # nobody has it yet; a copy takes ten times as long
    return progress


def _left(state: JobState, percent: int | None) -> Left | None:
    """The time left by the job's own pace, its figure of this answer counted; *reckoned* is when the answer came."""
    if (now := state.reckoned) is None or percent is None:
        return None
    return left(state.marks if percent == state.percent else marked(state.marks, now, percent), now)


def _stall(state: JobState, progress: Progress, seen: Observation) -> tuple[Stalled, ...]:
    """Once, when a movement is overdue by the job's own rhythm."""
    rhythm = state.rhythm
    if seen.log or rhythm.stalled or moves(state, progress) or not rhythm.stayed().overdue:
        return ()
    now = state.reckoned
    return (Stalled(seconds=max(0.0, (now - rhythm.since).total_seconds()) if now and rhythm.since else 0.0),)


def _end(seen: Observation) -> tuple[Event, ...]:
    """The events that end the job; none while it goes on."""
    if (failure := seen.failure) is not None:
        if failure.kind == "cancelled":
            return (Cancelled(by="upstream", message=failure.message),)
        return (Failed(kind=failure.kind, message=failure.message, retryable=failure.retryable),)
    return outcome(seen.result) if seen.result is not None else ()


def _lost(state: JobState) -> Failed:
    where = "left the list of pending jobs" if state.seen else "was never listed as pending"
    return Failed(kind="lost", message=f"the job {where}, and no result has appeared", retryable=False)
