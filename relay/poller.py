"""The one loop that asks an upstream: one request an interval, however many jobs and viewers there are."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from relay.bus import Bus
from relay.clock import Clock
from relay.errors import UpstreamError
from relay.events import Checking, DraftsFetch, Event, Failed, Received, Retrying
from relay.jobs import Job, Patience, decide_fetched, decide_listed
from relay.observations import Answer, Observation
from relay.subscription import Notify, notice
from relay.upstreams.base import FetchesResults, Upstream

__all__ = ["Poller"]

BACKOFF_LIMIT: Final = 60.0
UNSEEN_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 60.0


class Poller:
    """Asks one upstream about all its jobs, and publishes what follows. It has no logger and no stream.

    A job is polled from the next tick after `watch` until its terminal record. Rounds are one interval apart, counted
    from start to start on the monotonic clock: a slow answer or a suspended machine never causes a burst.
    """

    def __init__(
        self,
        upstream: Upstream,
        bus: Bus,
        clock: Clock,
        *,
        notify: Notify = notice,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._upstream = upstream
        self._bus = bus
        self._clock = clock
        self._notify = notify
        self._jitter = jitter
        self._jobs: dict[Job, float] = {}
        self._arrived = asyncio.Event()
        self._next_at = -math.inf
        self._failed_polls: Counter[Job] = Counter()
        self._polls = max(1, math.ceil(upstream.deadline / upstream.interval))
        self._patience = Patience(
            unseen=max(2, math.ceil(UNSEEN_SECONDS / upstream.interval)),
            grace=max(2, math.ceil(GRACE_SECONDS / upstream.interval)),
        )

    def watch(self, job: Job, *, elapsed: float = 0.0) -> None:
        """Poll *job*, which has been running for *elapsed* seconds already, until it ends."""
        self._jobs[job] = self._clock.monotonic() + self._upstream.deadline - elapsed
        self._arrived.set()

    async def run(self) -> None:
        """Poll until cancelled. Whatever goes wrong in a round is said, and the next round comes."""
        while True:
            await self._arrived.wait()
            await self._sleep_until_next()
            if not self._running():
                self._arrived.clear()
                continue
            began = self._clock.monotonic()
            try:
                delay = await self._round()
            except Exception as error:
                self._notify(f"upstream {self._upstream.name}: a round of polling broke off: {error!r}")
                delay = self._upstream.interval
            self._next_at = self._clock.monotonic() + delay if delay else began + self._upstream.interval

    async def _sleep_until_next(self) -> None:
        """Wait for the next round; a job whose deadline comes first ends on time."""
        while self._running() and (now := self._clock.monotonic()) < self._next_at:
            await self._clock.sleep(min(self._next_at, *self._jobs.values()) - now)

    async def _round(self) -> float:
        """Ask once about every job. Return the seconds to hold off after a failure, 0 after none."""
        jobs = self._running()
        with self._bus.batch():
            for job in jobs:
                attempt = job.state.attempt + 1
                self._publish(job, Checking(attempt=attempt, of=max(self._polls, attempt)))
        try:
            answer, seconds = await self._ask(self._upstream.observe, jobs)
        except UpstreamError as error:
            return self._back_off(jobs, error)
        with self._bus.batch():
            fetching = [job for job in jobs if self._listed(job, answer, seconds)]
        if fetching and isinstance(self._upstream, FetchesResults):
            return await self._fetch(self._upstream, fetching)
        return 0.0

    def _listed(self, job: Job, answer: Answer, seconds: float) -> bool:
        """Publish what *answer* means for *job*; return whether its result is to be fetched now."""
        self._publish(job, Received(listed=answer.listed, seconds=seconds))
        try:
            seen = _read(answer, job)
        except UpstreamError as error:
            self._publish(job, self._retrying(job, error, self._upstream.interval))
            return False
        two_step = isinstance(self._upstream, FetchesResults)
        events = decide_listed(job.state, seen, self._patience, two_step=two_step)
        self._publish(job, *events)
        if isinstance(events[-1], DraftsFetch):
            return not job.ended
        self._failed_polls.pop(job, None)
        return False

    async def _fetch(self, upstream: FetchesResults, jobs: list[Job]) -> float:
        """Look once for the results of *jobs*. Return as `_round` does."""
        try:
            answer, _ = await self._ask(upstream.fetch_result, jobs)
        except UpstreamError as error:
            return self._back_off(jobs, error)
        with self._bus.batch():
            for job in jobs:
                self._fetched(job, answer)
        return 0.0

    def _fetched(self, job: Job, answer: Answer) -> None:
        try:
            found = _read(answer, job)
        except UpstreamError as error:
            return self._publish(job, self._retrying(job, error, self._upstream.interval))
        self._failed_polls.pop(job, None)
        self._publish(job, *decide_fetched(job.state, found, self._patience))

    async def _ask(
        self, question: Callable[[Sequence[str]], Awaitable[Answer]], jobs: list[Job]
    ) -> tuple[Answer, float]:
        """The answer about *jobs*, and the seconds it took. Raises UpstreamError, and nothing else."""
        began = self._clock.monotonic()
        try:
            answer = await question([job.state.task for job in jobs if job.state.task is not None])
        except UpstreamError:
            raise
        except Exception as error:
            self._notify(f"the adapter of upstream {self._upstream.name} failed: {error!r}")
            raise UpstreamError("internal", f"the adapter failed with {type(error).__name__}") from error
        return answer, round(self._clock.monotonic() - began, 3)

    def _back_off(self, jobs: list[Job], error: UpstreamError) -> float:
        """Say that the poll failed and when the next one is: later each time, or when the upstream asked for it."""
        in_a_row = 1 + max(self._failed_polls[job] for job in jobs)
        delay = min(BACKOFF_LIMIT, self._upstream.interval * 2 ** min(in_a_row - 1, 16))
        delay = delay * (0.9 + 0.2 * self._jitter()) if error.retry_after is None else error.retry_after
        delay = round(max(self._upstream.interval, min(delay, BACKOFF_LIMIT)), 3)
        with self._bus.batch():
            for job in jobs:
                self._publish(job, self._retrying(job, error, delay))
        return delay

    def _retrying(self, job: Job, error: UpstreamError, delay: float) -> Retrying:
        self._failed_polls[job] += 1
        return Retrying(kind=error.kind, message=error.message, attempt=self._failed_polls[job], next_in=delay)

    def _running(self) -> list[Job]:
        """The jobs still to be polled. A job past its deadline ends here."""
        now = self._clock.monotonic()
        for job, deadline in list(self._jobs.items()):
            if not job.ended and now >= deadline:
                self._publish(job, self._overdue(job))
            if job.ended:
                del self._jobs[job]
                self._failed_polls.pop(job, None)
        return list(self._jobs)

    def _overdue(self, job: Job) -> Failed:
        minutes = self._upstream.deadline / 60
        trouble = f", and the last {self._failed_polls[job]} polls failed" if self._failed_polls[job] else ""
        return Failed(kind="timeout", message=f"not finished within {minutes:g} minutes{trouble}", retryable=True)

    def _publish(self, job: Job, *events: Event) -> None:
        """Publish for a job that may have ended meanwhile: it was cancelled while the upstream was asked."""
        for event in events:
            if not job.ended:
                self._bus.publish(job, event)


def _read(answer: Answer, job: Job) -> Observation | None:
    said = answer.tasks.get(job.state.task or "")
    if isinstance(said, UpstreamError):
        raise said
    return said
