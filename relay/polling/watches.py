"""The jobs that a poller polls, and the events that each poll publishes for them, up to their end at the deadline."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from relay.bus.bus import Bus
from relay.clock import Clock, slices
from relay.errors import ErrorKind, UpstreamError
from relay.events import (
    Checking,
    Event,
    Failed,
    FailureKind,
    Received,
    Retrying,
    Status,
)
from relay.jobs.decide import Patience, decide_fetched, decide_listed, is_complete_for
from relay.jobs.observations import Answer, Observation
from relay.jobs.state import Job, JobState
from relay.notices import Notify
from relay.pace import Pace, clamp_delay
from relay.polling.publishing import publish_kept
from relay.polling.sanitise import sanitise_error, sanitise_observation
from relay.polling.schedule import next_poll, preferred_interval
from relay.polling.watch import Watch
from relay.text import duration
from relay.upstreams.base import FetchesResults, Upstream

__all__ = ["LINGER", "TOKEN_CHECK", "Watches"]

T = TypeVar("T")

UNSEEN_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 2.0
"""How long answers leave a job out until something is concluded from it: see `relay.jobs.Patience`."""

TOLERANCE: Final = 0.9
"""The part of that which must have passed by the clock: as many answers as fit into it span one interval less."""

SLICE: Final = 40
"""For how many jobs at most is published before others have their turn on the loop, in one commit."""

LINGER: Final = 0.02
"""Seconds for which the beginning of a poll waits for the answer, to be committed with it; then it is by itself."""

TOKEN_CHECK: Final = 1.0
"""Seconds between two checks whether a token that was refused has been replaced."""

TRIES: Final = 3
TRIES_SECONDS: Final = 5.0
FINAL: Final[dict[ErrorKind, FailureKind]] = {"not-found": "not-found", "refused": "upstream"}
"""Errors about one task that end its job once TRIES polls in a row have met them.

The polls are spread over TRIES_SECONDS or more: a task that was just created may be unknown for a moment.
"""


class Watches:
    """All watches of one upstream. Every event that follows from a poll is published here."""

    def __init__(
        self, upstream: Upstream, bus: Bus, clock: Clock, pace: Pace, notify: Notify, chance: Callable[[], float]
    ) -> None:
        self.pace = pace
        self.bus = bus
        self.clock = clock
        self.chance = chance
        self.two_step: bool = isinstance(upstream, FetchesResults)
        self._upstream = upstream
        self._notify = notify
        self._watches: dict[Job, Watch] = {}
        self._polls = max(1, math.ceil(pace.deadline / pace.interval))
        self._patience = Patience(
            unseen=max(2, math.ceil(UNSEEN_SECONDS / pace.interval)),
            grace=max(2, math.ceil(GRACE_SECONDS / pace.interval)),
            unseen_seconds=UNSEEN_SECONDS * TOLERANCE,
            grace_seconds=GRACE_SECONDS,
            early=True,
            settle_seconds=min(SETTLE_SECONDS, pace.interval * TOLERANCE),
        )

    def __len__(self) -> int:
        return len(self._watches)

    def __iter__(self) -> Iterator[Watch]:
        return iter(self._watches.values())

    def add(self, job: Job, running: float) -> Watch:
        """Watch *job*, which has been running for *running* seconds already; all its polls are published through it."""
        now, state = self.clock.monotonic(), self.bus.pending(job)
        status_deadline = self._status_deadline(state.status, now - _since_entered(state, running))
        watch = Watch(job, added=now, deadline=now + self.pace.deadline - running, status_deadline=status_deadline)
        self._watches[job] = watch
        return watch

    def of(self, job: Job) -> Watch | None:
        """The watch of *job*, while it is watched."""
        return self._watches.get(job)

    def drop(self, job: Job) -> Watch | None:
        """Watch *job* no longer, and publish nothing more through its watch, which this returns if there was one."""
        watch = self._watches.pop(job, None)
        if watch is not None:
            watch.dropped = True
        return watch

    def running(self) -> list[Watch]:
        """The jobs still to be polled. Those that have ended are watched no longer."""
        for watch in [watch for watch in self if self.bus.pending(watch.job).ended]:
            del self._watches[watch.job]
        return list(self)

    def release_if_over(self, watch: Watch) -> bool:
        """Stop watching a job that has ended; return whether it has, or was dropped."""
        if watch.dropped:
            return True
        if ended := self.bus.pending(watch.job).ended:
            self._watches.pop(watch.job, None)
        return ended

    def publish_checking(self, watch: Watch) -> None:
        """Publish that a poll of the job begins."""
        watch.began = self.clock.monotonic()
        attempt = self.bus.pending(watch.job).attempt + 1
        self.publish(watch, Checking(attempt=attempt, of=max(self._polls, attempt)))

    def publish_answer(self, watch: Watch, answer: Answer, seconds: float, *, may_fetch: bool = True) -> bool:
        """Publish what follows from *answer* for the job; return whether its result is to be fetched now.

        Raises UpstreamError where the answer holds one about this job, which is not published yet, or holds something
        that cannot be published. With *may_fetch* false no result is fetched for now.
        """
        if watch.dropped:
            return False
        self.publish(watch, Received(listed=answer.listed, seconds=seconds), answered=watch.answered)
        state = self.bus.pending(watch.job)
        try:
            seen = _read(answer, state)
            watch.complete = seen is not None or is_complete_for(state, answer)
            decision = decide_listed(
                state,
                seen,
                self._patience,
                two_step=self.two_step,
                complete=watch.complete,
                left=watch.deadline - watch.began,
                overdue=watch.was_polled_overdue,
                may_fetch=may_fetch,
            )
        except UpstreamError:
            raise
        except Exception as error:
            raise self._unusable(error) from error
        self.publish(watch, *decision.events, answered=watch.answered)
        self._note_answer(watch, seen, answer)
        after = self.bus.pending(watch.job)
        if after.status != state.status:
            watch.status_deadline = self._status_deadline(after.status, self.clock.monotonic())
        watch.eta = decision.eta
        if decision.fetch:
            return not after.ended
        at_work = seen is not None and not (self.two_step and seen.status == "succeeded")
        if at_work or may_fetch:
            watch.failures = 0
        watch.spent = watch.was_polled_overdue and (at_work or not watch.complete or self._is_given_up(watch))
        return False

    def publish_result(self, watch: Watch, answer: Answer) -> None:
        """Publish what follows from *answer*, a look for the job's result. Raises as `publish_answer` does."""
        if watch.dropped:
            return
        state = self.bus.pending(watch.job)
        try:
            found = _read(answer, state)
            complete = watch.complete and is_complete_for(state, answer)
            decision = decide_fetched(state, found, self._patience, complete=complete)
        except UpstreamError:
            raise
        except Exception as error:
            raise self._unusable(error) from error
        watch.failures = 0
        self._note_answer(watch, found, answer)
        self.publish(watch, *decision.events, answered=watch.answered)
        watch.spent = watch.was_polled_overdue and (found is not None or not complete or self._is_given_up(watch))

    def end_if_overdue(self, watch: Watch) -> None:
        """Publish the end of a job that has had its last chance."""
        if watch.spent:
            self.publish(watch, self._overdue(watch))

    def publish_failure(self, watch: Watch, error: UpstreamError, delay: float, *, own: bool) -> None:
        """Publish that a poll of the job failed, and that the next one is in *delay* seconds; or the job's end.

        With *own* the error is about this very task: then some kinds of error end the job (FINAL). A job that is
        overdue ends with a poll that fails, and after TRIES of them if the first one came late: a machine that has been
        woken may have no network yet.
        """
        now = self.clock.monotonic()
        watch.failures += 1
        watch.held_until = now + delay if error.retry_after is not None else -math.inf
        kind = FINAL.get(error.kind) if own else None
        if watch.final == 0:
            watch.final_since = now
        watch.final = watch.final + 1 if kind else 0
        if kind and watch.final >= TRIES and now - watch.final_since >= TRIES_SECONDS:
            message = f"{error.message}, {watch.final} times in a row"
            return self.publish(watch, Failed(kind=kind, message=message, retryable=False))
        had_its_chance = watch.failures >= TRIES or not watch.was_polled_late(self.pace)
        if had_its_chance and watch.was_polled_overdue:
            return self.publish(watch, self._overdue(watch))
        return self.publish_backoff(watch, error, delay)

    def publish_backoff(self, watch: Watch, error: UpstreamError, delay: float) -> None:
        """Publish that the job is not polled for *delay* seconds, because of *error*."""
        attempt = max(1, watch.failures)
        self.publish(watch, Retrying(kind=error.kind, message=error.message, attempt=attempt, next_in=delay))

    def delay(self, watch: Watch, chance: float) -> float:
        """The seconds from the start of the job's last poll to the start of its next."""
        wish = self.pace.interval
        if self.pace.adaptive:
            state = self.bus.pending(watch.job)
            wish = preferred_interval(self.pace, flat=state.rhythm.still, percent=state.percent, eta=watch.eta)
        return next_poll(self.pace, wish, watch.poll_after, chance)

    def soonest(self, watches: Sequence[Watch], chance: float) -> float:
        """The least `delay` of *watches*. Quick for many, unless the pace is adaptive: few differ in `poll_after`."""
        if self.pace.adaptive:
            return min(self.delay(watch, chance) for watch in watches)
        return min(next_poll(self.pace, self.pace.interval, after, chance) for after in {w.poll_after for w in watches})

    async def for_each(self, items: Sequence[T], act: Callable[[T], object], *, linger: float = 0.0) -> None:
        """Call *act* on each item, a slice of them in one commit; others have their turn on the loop in between.

        The commit for no more than a SLICE is to *linger* (`Bus.batch`); many slices together would hold the loop.
        """
        linger = linger if len(items) <= SLICE else 0.0
        for number, part in enumerate(slices(items, most=SLICE, now=self.clock.monotonic)):
            if number:
                await self.clock.sleep(0)
            with self.bus.batch(deferrable=True, linger=linger):
                for item in part:
                    act(item)

    def publish(self, watch: Watch, *events: Event, answered: float | None = None) -> None:
        """Publish *events* unless the job was dropped or has ended meanwhile: it may be cancelled during a poll.

        An end that cannot be kept as a record is published as a failure that says why. Raises UpstreamError (malformed)
        for any other event that cannot be.
        """
        for event in events:
            if not (watch.dropped or self.bus.pending(watch.job).ended):
                publish_kept(self.bus, watch.job, event, answered)

    def _unusable(self, error: Exception) -> UpstreamError:
        """*error*, which an answer has caused while it was read, as an UpstreamError: it then ends one poll alone."""
        self._notify(f"the adapter of upstream {self._upstream.name} gave an answer that cannot be used: {error!r}")
        return UpstreamError("internal", f"the answer cannot be used: {type(error).__name__}")

    def _note_answer(self, watch: Watch, seen: Observation | None, answer: Answer) -> None:
        watch.final = 0
        watch.poll_after = answer.poll_after if seen is None else seen.poll_after
        after = watch.poll_after
        watch.held_until = -math.inf if after is None else watch.began + clamp_delay(after)

    def _status_deadline(self, status: Status, entered: float) -> float:
        """When a job that came to *status* at *entered* is overdue, by the limit of that status."""
        return entered + self.pace.deadlines.get(status, math.inf)

    def _is_given_up(self, watch: Watch) -> bool:
        """Whether a job has been missing for as long as one may be, but from answers that cannot make it lost."""
        return not watch.complete and self.bus.pending(watch.job).absent > UNSEEN_SECONDS + GRACE_SECONDS

    def _overdue(self, watch: Watch) -> Failed:
        trouble = f", and the last {watch.failures} polls failed" if watch.failures else ""
        message = f"not finished within {duration(self.pace.deadline)}{trouble}"
        limit = self.pace.deadlines.get(status := self.bus.pending(watch.job).status)
        if watch.status_deadline < watch.deadline and limit is not None:
            message = f"still {status} after {duration(limit)}{trouble}"
        return Failed(kind="timeout", message=message, retryable=True)


def _since_entered(state: JobState, running: float) -> float:
    """For how many seconds a job that has been running for *running* has had its present status."""
    if state.entered is None or state.started is None:
        return running
    return max(0.0, running - (state.entered - state.started).total_seconds())


def _read(answer: Answer, state: JobState) -> Observation | None:
    entry = answer.tasks.get(state.task or "")
    if isinstance(entry, UpstreamError):
        raise sanitise_error(entry)
    return None if entry is None else sanitise_observation(entry)
