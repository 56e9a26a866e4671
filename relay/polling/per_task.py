"""Polls of an upstream with one request a job: each job has its own times, and all share one budget."""

import asyncio
import math
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

from relay.errors import ErrorKind, UpstreamError
from relay.jobs.observations import Answer
from relay.jobs.state import Job
from relay.notices import Notify
from relay.pace import MIN_DELAY
from relay.polling.breaker import Breaker, back_off, is_of_the_account
from relay.polling.due_queue import Alarm, DueQueue
from relay.polling.token_bucket import TokenBucket
from relay.polling.watch import Watch
from relay.polling.watches import LINGER, TOKEN_CHECK, Call, Watches
from relay.upstreams.base import CountsRequests, FetchesResults, Upstream

__all__ = ["PerTaskPolling"]

SLACK: Final = 0.02
"""Seconds between two looks at the queue, and the most that an answer waits for others to be published with it.

Of 5,000 jobs at 2.5 s, forty then share one timer and one commit.
"""


class PollOutcome(NamedTuple):
    """The answer to one request and the seconds it took, or its error; None if no request was made any more."""

    watch: Watch
    answer: tuple[Answer, float] | UpstreamError | None
    is_result: bool


class PerTaskPolling:
    """A queue of due times, a few requests under way at once, and a breaker for the whole account.

    No job has a task of its own: one loop publishes what the requests have brought, and makes those that are due.
    """

    def __init__(self, upstream: Upstream, watches: Watches, notify: Notify) -> None:
        self._upstream = upstream
        self._watches = watches
        self._clock = watches.clock
        self._notify = notify
        self._budget = TokenBucket(watches.pace.requests_per_second)
        self._breaker = Breaker()
        self._refused: object = None
        self._refusals: set[Watch] = set()
        self._held_for: ErrorKind | None = None
        self._fetching: deque[Watch] = deque()
        self._counter = upstream if isinstance(upstream, CountsRequests) else None
        self._counted = 0
        self._queue = DueQueue[Watch](self._fitted)
        self._alarm = Alarm(watches.clock)
        self._requests: dict[Watch, asyncio.Task[None]] = {}
        self._under_way: set[Watch] = set()
        self._outcomes: list[PollOutcome] = []
        self._hurried = False
        self._looked_at = -math.inf

    def watch(self, job: Job, elapsed: float, held_off: float = 0.0) -> None:
        watch = self._watches.add(job, elapsed)
        if held_off:
            watch.held_until = self._clock.monotonic() + held_off
            self._queue.put(watch, watch.held_until)
        else:
            self._queue.join(watch)
        self._hurry()

    def drop(self, job: Job) -> None:
        """A request under way goes on: its answer says how the account is, and its place is free once it is over."""
        watch = self._watches.drop(job)
        if watch is None:
            return
        self._queue.discard(watch)
        if watch in self._fetching:
            self._fetching.remove(watch)
            self._under_way.discard(watch)
            self._breaker.abandon()
            self._alarm.ring()
        self._refusals.discard(watch)
        self._keep_looking_at_token()

    def wake(self, job: Job) -> None:
        watch = self._watches.of(job)
        if watch is None or watch.news:
            return
        watch.news = True
        if watch in self._queue and self._hurries(watch, due := self._queue.due(watch)):
            self._queue.put(watch, due)
            self._hurry()

    def recovered(self) -> None:
        """The upstream has just accepted a submission: poll again, unless it wants more time."""
        if self._breaker.reset():
            self._refused = None
            self._spread(self._clock.monotonic())
            self._hurry()

    async def run(self) -> None:
        try:
            while True:
                await self._alarm.wait(max(self._next_at(), self._clock.monotonic() + SLACK))
                try:
                    await self._round()
                except Exception as error:
                    self._notify(f"upstream {self._upstream.name}: a round of polling broke off: {error!r}")
                    self._begin_anew(self._clock.monotonic() + self._watches.pace.interval)
        finally:
            await self._end()

    async def _round(self) -> None:
        """Publish the answers that have come, and make the requests that are due, in one commit of the journal.

        The beginnings of polls wait for their answers a while, to share a commit with them.
        """
        with self._watches.bus.batch(deferrable=True, linger=0.0 if self._outcomes else LINGER):
            trouble = self._publish_outcomes()
            if trouble is None:
                self._request_what_is_due()
        if trouble is not None:
            await self._hold(trouble)
            with self._watches.bus.batch(deferrable=True, linger=LINGER):
                self._request_what_is_due()

    def _begin_anew(self, start: float) -> None:
        """Go on from *start* after an internal error: no job waits for an answer that was lost with it."""
        self._under_way.difference_update(self._fetching)
        self._fetching.clear()
        if self._breaker.state == "half-open" and not self._under_way:
            self._breaker.open(start)
        self._spread(start)

    def _next_at(self) -> float:
        """When there is something to do, unless a request ends before."""
        now = self._clock.monotonic()
        if self._fetching:
            return self._budget.ready_at(now)
        look = now + TOKEN_CHECK if self._refusals else math.inf
        at = self._queue.next_at
        if self._breaker.state == "open":
            return min(at, look)
        if self._breaker.state == "half-open" or len(self._under_way) >= self._watches.pace.concurrency:
            # A request that ends rings the alarm; a job whose deadline comes before that waits.
            return look
        return min(at if at > now else self._budget.ready_at(now), look)

    def _hurry(self) -> None:
        self._hurried = True
        self._alarm.ring()

    def _welcome(self) -> None:
        """Spread the first polls of jobs that came together over an interval; a job that came alone has it at once."""
        start = self._clock.monotonic()
        if self._breaker.state != "closed":
            start = max(start, self._breaker.until)
        self._queue.welcome(start, self._watches.pace.interval)

    def _fitted(self, watch: Watch, due: float) -> float:
        """*due*, or sooner: news of the job, or its deadline, may bring its poll forward."""
        if self._hurries(watch, due):
            due = self._soonest(watch)
        if self._breaker.state == "closed" or self._denied:
            due = min(due, watch.last_poll_at(self._watches.pace))
        return due

    def _hurries(self, watch: Watch, due: float) -> bool:
        """Whether news brings the poll forward: not while polls of the job, or of the account, are held off."""
        return watch.news and not watch.failures and self._breaker.state == "closed" and due > self._soonest(watch)

    def _soonest(self, watch: Watch) -> float:
        held_off = watch.held_until if watch.began == -math.inf else -math.inf
        return max(self._clock.monotonic(), watch.began + MIN_DELAY, held_off)

    def _request_what_is_due(self) -> None:
        """Make requests while concurrency and budget allow: for results first, then for jobs in their turns."""
        self._welcome()
        now = self._clock.monotonic()
        if not self._hurried and now < self._looked_at + SLACK:
            return
        self._hurried, self._looked_at = False, now
        self._look_at_token(now)
        self._count_requests(now)
        self._fetch_results(now)
        while (watch := self._next_due(now)) is not None:
            if not (self._may_poll(watch, now) and self._take(now)):
                self._hurried = True
                break
            if self._breaker.allows(now):
                self._breaker.try_out()
            self._queue.discard(watch)
            watch.news = False
            self._watches.publish_checking(watch)
            self._request(watch, self._upstream.observe, is_result=False)

    def _next_due(self, now: float) -> Watch | None:
        """The job whose turn it is. In a trial it is one that has failed least, if several are due."""
        if self._breaker.state == "open" and self._breaker.allows(now):
            due = [watch for watch in self._queue.all_due(now) if self._goes_on(watch)]
            return min(due, key=lambda watch: watch.failures, default=None)
        while (watch := self._queue.first_due(now)) is not None and not self._goes_on(watch):
            pass
        return watch

    def _goes_on(self, watch: Watch) -> bool:
        """Whether the job is still to be polled; one that has ended loses its turn."""
        if not self._watches.release_if_over(watch):
            return True
        self._queue.discard(watch)
        return False

    def _fetch_results(self, now: float) -> None:
        while self._fetching and isinstance(self._upstream, FetchesResults) and self._take(now):
            self._request(self._fetching.popleft(), self._upstream.fetch_result, is_result=True)

    def _take(self, now: float) -> bool:
        """Whether the budget has room for one more request; if so, it is counted."""
        taken = self._budget.take(now)
        self._counted += taken
        return taken

    def _count_requests(self, now: float) -> None:
        """Count the adapter's other requests as well: for files, submissions and cancellations."""
        if self._counter is not None:
            others = self._counter.requests - self._counted
            self._budget.spend(others, now)
            self._counted += max(0, others)

    def _look_at_token(self, now: float) -> None:
        """Once a refused token has been replaced, one request may try at once."""
        if self._refusals and self._watches.token_version() != self._refused:
            self._refusals.clear()
            self._breaker.try_now(now)
            self._spread(now)

    def _keep_looking_at_token(self) -> None:
        """While the account's token is refused, one job at least stands for that: another one if it was dropped."""
        if self._denied and not self._refusals:
            self._refusals.update(islice(self._watches, 1))

    def _may_poll(self, watch: Watch, now: float) -> bool:
        """Whether the job may be polled now; only overdue jobs are while the account's token is refused."""
        allowed = self._breaker.allows(now) or (self._denied and watch.last_poll_at(self._watches.pace) <= now)
        return allowed and len(self._under_way) < self._watches.pace.concurrency

    @property
    def _denied(self) -> bool:
        """Whether no polls are made because the account's token was refused."""
        return self._breaker.state == "open" and self._held_for == "auth"

    def _request(self, watch: Watch, call: Call, *, is_result: bool) -> None:
        self._under_way.add(watch)
        self._requests[watch] = asyncio.create_task(self._await_answer(watch, call, is_result=is_result))

    async def _await_answer(self, watch: Watch, call: Call, *, is_result: bool) -> None:
        answer: tuple[Answer, float] | UpstreamError | None
        try:
            answer = await self._watches.request(call, [watch])
        except UpstreamError as error:
            answer = error
        except BaseException:
            self._has_come(PollOutcome(watch, UpstreamError("internal", "the request was cancelled"), is_result))
            raise
        self._has_come(PollOutcome(watch, answer, is_result))

    def _has_come(self, outcome: PollOutcome) -> None:
        """Keep the outcome of a request, however it has ended: a job without one would never be polled again."""
        self._requests.pop(outcome.watch, None)
        self._outcomes.append(outcome)
        if self._hurried or len(self._outcomes) >= len(self._under_way):
            self._alarm.ring()
        elif len(self._outcomes) == 1:
            self._alarm.ring_by(self._clock.monotonic() + SLACK)

    def _publish_outcomes(self) -> UpstreamError | None:
        """Publish the answers that have come since the last time; return what the account is to be held off for."""
        outcomes, self._outcomes = self._outcomes, []
        self._under_way.difference_update(outcome.watch for outcome in outcomes)
        self._refusals.difference_update(outcome.watch for outcome in outcomes)
        was_closed = self._breaker.state == "closed"
        trouble: UpstreamError | None = None
        for outcome in outcomes:
            trouble = self._publish_outcome(outcome) or trouble
        if trouble is None and not was_closed and self._breaker.state == "closed":
            self._spread(self._clock.monotonic())
        return trouble

    def _publish_outcome(self, outcome: PollOutcome) -> UpstreamError | None:
        """Publish what one request has brought; return the error for which the account is to be held off, if any."""
        watch, watches = outcome.watch, self._watches
        if outcome.answer is None:
            self._breaker.abandon()
            return None
        try:
            if isinstance(outcome.answer, UpstreamError):
                raise outcome.answer
            answer, seconds = outcome.answer
            if outcome.is_result:
                watches.publish_result(watch, answer)
            elif watches.publish_answer(watch, answer, seconds) and isinstance(self._upstream, FetchesResults):
                self._under_way.add(watch)
                self._fetching.append(watch)
                self._hurried = True
                return None
        except UpstreamError as error:
            return self._failed(watch, error)
        except Exception as error:
            self._notify(
                f"the answer of upstream {self._upstream.name} about {watch.job.id} cannot be published: {error!r}"
            )
            return self._failed(watch, UpstreamError("internal", f"the answer cannot be published: {error}"))
        self._breaker.close()
        watches.end_if_overdue(watch)
        if not watches.release_if_over(watch):
            self._queue.put(watch, watch.began + watches.delay(watch, watches.chance()))
        return None

    def _failed(self, watch: Watch, error: UpstreamError) -> UpstreamError | None:
        now, pace, chance = self._clock.monotonic(), self._watches.pace, self._watches.chance()
        refusal, limit = error.kind == "auth", error.kind == "rate-limit" and error.retry_after is not None
        if refusal:
            self._refusals.add(watch)
            self._refused = self._watches.token_version()
        of_the_account = is_of_the_account(error.kind)
        # A job that has failed before, and fails again, says nothing new of the account.
        is_news = of_the_account and (watch.failures == 0 or limit or self._breaker.state == "half-open")
        opens = is_news and self._breaker.counts(at_once=limit, refusal=refusal)
        if not of_the_account:
            self._breaker.close()
        in_a_row = max(watch.failures, self._breaker.openings) + 1
        due = watch.fitted(now + back_off(pace, in_a_row, error, chance), pace)
        if self._breaker.state == "open":
            due = max(due, self._breaker.until + chance * pace.interval)
        if opens:
            self._held_for = error.kind
            self._breaker.open(due, limited=error.retry_after is not None)
        if watch.dropped:
            self._refusals.discard(watch)
            self._keep_looking_at_token()
        self._watches.publish_failure(watch, error, round(due - now, 3), own=True)
        if not self._watches.release_if_over(watch):
            self._queue.put(watch, due)
        return error if opens else None

    async def _hold(self, error: UpstreamError) -> None:
        """Pause polling for the account; afterwards one job is polled first, and the others after it.

        For a refused token and for an outage, each job that waits publishes that once. A rate limit is an ordinary way
        for an upstream to pace its clients: only the job that met it publishes it.
        """
        first_time = self._breaker.openings == 1
        self._spread(self._breaker.until)
        if first_time and error.kind != "rate-limit":
            now = self._clock.monotonic()
            waiting = [watch for watch in self._watches if watch.failures == 0 and watch not in self._under_way]
            await self._watches.for_each(
                waiting,
                lambda watch: self._watches.publish_backoff(
                    watch, error, round(max(0.0, self._queue.due(watch) - now), 3)
                ),
            )

    def _spread(self, start: float) -> None:
        """Give all jobs that are not being polled their turns within an interval from *start* on.

        Those that failed least come first, and among them the ones whose turn it was.
        """
        waiting = [watch for watch in self._watches if watch not in self._under_way]
        waiting.sort(key=lambda watch: (watch.failures, self._queue.due(watch)))
        self._queue.spread(
            waiting,
            start,
            self._watches.pace.interval,
            not_before=lambda watch: watch.began + self._watches.delay(watch, 0.0),
        )

    async def _end(self) -> None:
        """Leave no task behind, and every job with a turn, in case that `run` is called again."""
        while requests := [request for request in self._requests.values() if not request.done()]:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        await self._alarm.stop()
        self._requests.clear()
        self._under_way.clear()
        self._outcomes.clear()
        self._fetching.clear()
        self._breaker.abandon()
        self._spread(self._clock.monotonic())
        self._alarm.ring()
