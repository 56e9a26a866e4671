"""The jobs that a poller watches, and what each poll means for them: asked, told, counted, ended on time."""

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from relay.bus import Bus
from relay.cadence import Pace, next_poll, wished
from relay.clock import Clock
from relay.errors import ErrorKind, UpstreamError
from relay.events import Checking, DraftsFetch, Event, Failed, FailureKind, Progress, Received, Retrying, Status
from relay.jobs import Job, Patience, decide_fetched, decide_listed
from relay.observations import Answer, Observation
from relay.subscription import Notify
from relay.upstreams.base import FetchesResults, Reauthorises, Upstream

__all__ = ["TOKEN_CHECK", "Question", "Watch", "Watches"]

T = TypeVar("T")

Question = Callable[[Sequence[str]], Awaitable[Answer]]

UNSEEN_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 60.0

SLICE: Final = 40
"""How many jobs are told of before others have their turn on the loop: some 3 ms, 15 on a busy machine."""

TOKEN_CHECK: Final = 1.0
"""Seconds between two looks whether a token that was refused has been replaced."""

TRIES: Final = 3
FINAL: Final[dict[ErrorKind, FailureKind]] = {"not-found": "not-found", "refused": "upstream"}
"""What an upstream may say about one task that ends the job, once it has said so TRIES times in a row."""


class Watch:
    """One job under watch, with what its records do not hold: times on the monotonic clock, and failures in a row."""

    __slots__ = (
        "began",
        "deadline",
        "due",
        "entered",
        "eta",
        "failures",
        "final",
        "job",
        "news",
        "poll_after",
        "status",
        "turn",
    )

    def __init__(self, job: Job, *, deadline: float, entered: float) -> None:
        self.job = job
        self.deadline = deadline
        self.status: Status = job.state.status
        self.entered = entered
        self.failures = 0
        self.final = 0
        self.poll_after: float | None = None
        self.eta: float | None = None
        self.began = -math.inf
        self.due = -math.inf
        self.turn = -1
        self.news = False

    def ends_at(self, pace: Pace) -> float:
        """When the job is given up, as long as it stays as it is."""
        allowed = pace.deadlines.get(self.status) if pace.deadlines else None
        return self.deadline if allowed is None else min(self.deadline, self.entered + allowed)

    def is_over(self, now: float, pace: Pace) -> bool:
        """Whether the job is to be given up now, and has not ended yet."""
        return not self.job.ended and now >= self.ends_at(pace)


class Watches:
    """All watches of one upstream. Whatever is said about a job is published here, in the words of `relay.jobs`."""

    def __init__(
        self, upstream: Upstream, bus: Bus, clock: Clock, pace: Pace, notify: Notify, chance: Callable[[], float]
    ) -> None:
        self.pace = pace
        self.bus = bus
        self.clock = clock
        self.chance = chance
        self.two_step = isinstance(upstream, FetchesResults)
        self._upstream = upstream
        self._notify = notify
        self._watches: dict[Job, Watch] = {}
        self._polls = max(1, math.ceil(pace.deadline / pace.interval))
        self._patience = Patience(
            unseen=max(2, math.ceil(UNSEEN_SECONDS / pace.interval)),
            grace=max(2, math.ceil(GRACE_SECONDS / pace.interval)),
        )

    def __len__(self) -> int:
        return len(self._watches)

    def __iter__(self) -> Iterator[Watch]:
        return iter(self._watches.values())

    def add(self, job: Job, elapsed: float) -> Watch:
        """Watch *job*, which has been running for *elapsed* seconds already."""
        now, state = self.clock.monotonic(), job.state
        entered = now - elapsed
        if state.entered is not None:
            entered = max(entered, now - max(0.0, (self.clock.now() - state.entered).total_seconds()))
        watch = Watch(job, deadline=now + self.pace.deadline - elapsed, entered=entered)
        self._watches[job] = watch
        return watch

    def of(self, job: Job) -> Watch | None:
        """The watch of *job*, while it is watched."""
        return self._watches.get(job)

    async def running(self) -> list[Watch]:
        """The jobs still to be polled. Those past their deadlines end here, a few at a time."""
        now, pace = self.clock.monotonic(), self.pace
        over = [watch for watch in self if watch.is_over(now, pace)]
        await self.for_each(over, self.goes_on)
        for watch in [watch for watch in self if watch.job.ended]:
            del self._watches[watch.job]
        return list(self)

    def goes_on(self, watch: Watch) -> bool:
        """Whether the job is still to be polled. If it is past its deadline it ends here."""
        if watch.is_over(self.clock.monotonic(), self.pace):
            self.publish(watch, self._overdue(watch))
        if watch.job.ended:
            self._watches.pop(watch.job, None)
        return not watch.job.ended

    def checking(self, watch: Watch) -> None:
        """A poll of the job begins."""
        watch.began = self.clock.monotonic()
        attempt = watch.job.state.attempt + 1
        self.publish(watch, Checking(attempt=attempt, of=max(self._polls, attempt)))

    async def ask(self, question: Question, watches: Sequence[Watch]) -> tuple[Answer, float]:
        """The answer about *watches*, and the seconds it took. Raises UpstreamError, and nothing else."""
        began = self.clock.monotonic()
        try:
            answer = await question([watch.job.state.task for watch in watches if watch.job.state.task is not None])
        except UpstreamError:
            raise
        except Exception as error:
            self._notify(f"the adapter of upstream {self._upstream.name} failed: {error!r}")
            raise UpstreamError("internal", f"the adapter failed with {type(error).__name__}") from error
        return answer, round(self.clock.monotonic() - began, 3)

    def listed(self, watch: Watch, answer: Answer, seconds: float) -> bool:
        """Publish what *answer* means for the job; return whether its result is to be fetched now.

        Raises UpstreamError where the answer holds one about this job, which is yet to be told.
        """
        self.publish(watch, Received(listed=answer.listed, seconds=seconds))
        seen = _read(answer, watch)
        events = decide_listed(watch.job.state, seen, self._patience, two_step=self.two_step)
        self.publish(watch, *events)
        self._understood(watch, seen)
        watch.eta = next((event.eta for event in events if isinstance(event, Progress)), None)
        if isinstance(events[-1], DraftsFetch):
            return not watch.job.ended
        watch.failures = 0
        return False

    def fetched(self, watch: Watch, answer: Answer) -> bool:
        """Publish what a look for the job's result has brought. Returns False, and raises as `listed` does."""
        found = _read(answer, watch)
        watch.failures = 0
        self._understood(watch, found)
        self.publish(watch, *decide_fetched(watch.job.state, found, self._patience))
        return False

    def failed(self, watch: Watch, error: UpstreamError, delay: float, *, own: bool) -> None:
        """Say that a poll of the job failed, and in how many seconds the next is.

        With *own* the upstream said it about this very task: then there are errors that it need not repeat for ever.
        """
        watch.failures += 1
        kind = FINAL.get(error.kind) if own else None
        watch.final = watch.final + 1 if kind else 0
        if kind and watch.final >= TRIES:
            message = f"{error.message}, {TRIES} times in a row"
            return self.publish(watch, Failed(kind=kind, message=message, retryable=False))
        self.waits(watch, error, delay)

    def waits(self, watch: Watch, error: UpstreamError, delay: float) -> None:
        """Say that the job is not polled for *delay* seconds, because of *error*."""
        attempt = max(1, watch.failures)
        self.publish(watch, Retrying(kind=error.kind, message=error.message, attempt=attempt, next_in=delay))

    def delay(self, watch: Watch, chance: float) -> float:
        """The seconds from the start of the job's last poll to the start of its next."""
        wish = self.pace.interval
        if self.pace.adaptive:
            state = watch.job.state
            wish = wished(self.pace, flat=state.rhythm.still, percent=state.percent, eta=watch.eta)
        return next_poll(self.pace, wish, watch.poll_after, chance)

    def soonest(self, watches: Sequence[Watch], chance: float) -> float:
        """The least `delay` of *watches*. Where they differ in what the upstream asked for alone, that is quick."""
        if self.pace.adaptive:
            return min(self.delay(watch, chance) for watch in watches)
        return min(next_poll(self.pace, self.pace.interval, asked, chance) for asked in {w.poll_after for w in watches})

    async def for_each(self, items: Sequence[T], act: Callable[[T], object]) -> None:
        """Do it for a few at a time, each few in one commit of the journal; others have their turn in between."""
        for start in range(0, len(items), SLICE):
            with self.bus.batch(soon=True):
                for item in items[start : start + SLICE]:
                    act(item)
            if len(items) > SLICE:
                await self.clock.sleep(0)

    def credential(self) -> object:
        """What changes with the account's token, where its adapter can tell."""
        try:
            return self._upstream.credential() if isinstance(self._upstream, Reauthorises) else None
        except Exception as error:
            return repr(error)

    def publish(self, watch: Watch, *events: Event) -> None:
        """Publish for a job that may have ended meanwhile: it was cancelled while the upstream was asked."""
        for event in events:
            if not watch.job.ended:
                self.bus.publish(watch.job, event)

    def _understood(self, watch: Watch, seen: Observation | None) -> None:
        watch.final = 0
        watch.poll_after = seen.poll_after if seen is not None else None
        if watch.job.state.status != watch.status:
            watch.status, watch.entered = watch.job.state.status, self.clock.monotonic()

    def _overdue(self, watch: Watch) -> Failed:
        trouble = f", and the last {watch.failures} polls failed" if watch.failures else ""
        minutes = self.pace.deadline / 60
        message = f"not finished within {minutes:g} minutes{trouble}"
        if watch.ends_at(self.pace) < watch.deadline:
            minutes = self.pace.deadlines[watch.status] / 60
            message = f"still {watch.status} after {minutes:g} minutes{trouble}"
        return Failed(kind="timeout", message=message, retryable=True)


def _read(answer: Answer, watch: Watch) -> Observation | None:
    said = answer.tasks.get(watch.job.state.task or "")
    if isinstance(said, UpstreamError):
        raise said
    return said
