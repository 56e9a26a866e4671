"""Polls of an upstream with one request a job: each job has its own times, and all share one budget."""

import math
from collections import deque
from itertools import islice
from typing import Final

from relay.errors import UpstreamError
from relay.jobs.state import Job
from relay.notices import Notify
from relay.polling.adapter_requests import AdapterRequests, Call
from relay.polling.breaker import Breaker, back_off, is_of_the_account
from relay.polling.due_queue import Alarm
from relay.polling.open_requests import OpenRequests, PollOutcome
from relay.polling.request_budget import RequestBudget
from relay.polling.turns import Turns
from relay.polling.watch import Watch
from relay.polling.watches import LINGER, TOKEN_CHECK, Watches
from relay.upstreams.base import FetchesResults, Upstream

__all__ = ["PerTaskPolling"]

SLACK: Final = 0.02
"""Seconds between two looks at the queue, and the most that an answer waits for others to be published with it.

Of 5,000 jobs at 2.5 s, forty then share one timer and one commit.
"""


class PerTaskPolling:
    """A queue of due times, a few requests under way at once, and a breaker for the whole account.

    No job has a task of its own: one loop publishes what the requests have brought, and makes those that are due.
    """

    def __init__(self, upstream: Upstream, adapter: AdapterRequests, watches: Watches, notify: Notify) -> None:
        self._upstream = upstream
        self._adapter = adapter
        self._watches = watches
        self._clock = watches.clock
        self._notify = notify
        self._budget = RequestBudget(watches.pace.requests_per_second, upstream)
        self._breaker = Breaker()
        self._refused: object = None
        self._refusals: set[Watch] = set()
        self._fetching: deque[Watch] = deque()
        self._turns = Turns(watches, self._breaker)
        self._alarm = Alarm(watches.clock)
        self._requests = OpenRequests(adapter, self._has_come)
        self._under_way: set[Watch] = set()
        self._hurried = False
        self._looked_at = -math.inf

    def watch(self, job: Job, elapsed: float, held_off: float = 0.0) -> None:
        watch = self._watches.add(job, elapsed)
        if held_off:
            watch.held_until = self._clock.monotonic() + held_off
            self._turns.put(watch, watch.held_until)
        else:
            self._turns.join(watch)
        self._hurry()

    def drop(self, job: Job) -> None:
        """A request under way goes on: its answer says how the account is, and its place is free once it is over."""
        watch = self._watches.drop(job)
        if watch is None:
            return
        self._turns.discard(watch)
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
        if self._turns.bring_forward(watch):
            self._hurry()

    def recovered(self) -> None:
        """The upstream has just accepted a submission: poll again, unless it wants more time."""
        if self._breaker.reset():
            self._refused = None
            self._turns.spread_waiting(self._clock.monotonic(), self._under_way)
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
        with self._watches.bus.batch(deferrable=True, linger=0.0 if self._requests.outcomes else LINGER):
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
            self._breaker.reopen(start)
        self._turns.spread_waiting(start, self._under_way)

    def _next_at(self) -> float:
        """When there is something to do, unless a request ends before."""
        now = self._clock.monotonic()
        if self._fetching:
            return self._budget.ready_at(now)
        look = now + TOKEN_CHECK if self._refusals else math.inf
        at = self._turns.next_at
        if self._breaker.state == "open":
            return min(at, look)
        if self._breaker.state == "half-open" or len(self._under_way) >= self._watches.pace.concurrency:
            # A request that ends rings the alarm; a job whose deadline comes before that waits.
            return look
        return min(at if at > now else self._budget.ready_at(now), look)

    def _hurry(self) -> None:
        self._hurried = True
        self._alarm.ring()

    def _request_what_is_due(self) -> None:
        """Make requests while concurrency and budget allow: for results first, then for jobs in their turns."""
        self._turns.welcome_newcomers()
        now = self._clock.monotonic()
        if not self._hurried and now < self._looked_at + SLACK:
            return
        self._hurried, self._looked_at = False, now
        self._look_at_token(now)
        self._budget.count_others(now)
        self._fetch_results(now)
        while (watch := self._turns.next_due(now)) is not None:
            if not (self._may_poll(watch, now) and self._budget.take(now)):
                self._hurried = True
                break
            if self._breaker.allows(now):
                self._breaker.try_out()
            self._turns.discard(watch)
            watch.news = False
            self._watches.publish_checking(watch)
            self._request(watch, self._upstream.observe, is_result=False)

    def _fetch_results(self, now: float) -> None:
        while self._fetching and isinstance(self._upstream, FetchesResults) and self._budget.take(now):
            self._request(self._fetching.popleft(), self._upstream.fetch_result, is_result=True)

    def _look_at_token(self, now: float) -> None:
        """Once a refused token has been replaced, one request may try at once."""
        if self._refusals and self._adapter.token_version() != self._refused:
            self._refusals.clear()
            self._breaker.try_now(now)
            self._turns.spread_waiting(now, self._under_way)

    def _keep_looking_at_token(self) -> None:
        """While the account's token is refused, one job at least stands for that: another one if it was dropped."""
        if self._breaker.token_refused and not self._refusals:
            self._refusals.update(islice(self._watches, 1))

    def _may_poll(self, watch: Watch, now: float) -> bool:
        """Whether the job may be polled now; only overdue jobs are while the account's token is refused."""
        last_chance = self._breaker.token_refused and watch.last_poll_at(self._watches.pace) <= now
        allowed = last_chance or self._breaker.allows(now)
        return allowed and len(self._under_way) < self._watches.pace.concurrency

    def _request(self, watch: Watch, call: Call, *, is_result: bool) -> None:
        self._under_way.add(watch)
        self._requests.make(watch, call, is_result=is_result)

    def _has_come(self) -> None:
        """Publish outcomes SLACK after the first of them, or as soon as no more are under way."""
        waiting = len(self._requests.outcomes)
        if self._hurried or waiting >= len(self._under_way):
            self._alarm.ring()
        elif waiting == 1:
            self._alarm.ring_by(self._clock.monotonic() + SLACK)

    def _publish_outcomes(self) -> UpstreamError | None:
        """Publish the answers that have come since the last time; return what the account is to be held off for."""
        outcomes = self._requests.take_outcomes()
        self._under_way.difference_update(outcome.watch for outcome in outcomes)
        self._refusals.difference_update(outcome.watch for outcome in outcomes)
        was_closed = self._breaker.state == "closed"
        trouble: UpstreamError | None = None
        for outcome in outcomes:
            trouble = self._publish_outcome(outcome) or trouble
        if trouble is None and not was_closed and self._breaker.state == "closed":
            self._turns.spread_waiting(self._clock.monotonic(), self._under_way)
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
            self._turns.put(watch, watch.began + watches.delay(watch, watches.chance()))
        return None

    def _failed(self, watch: Watch, error: UpstreamError) -> UpstreamError | None:
        now, pace, chance = self._clock.monotonic(), self._watches.pace, self._watches.chance()
        refusal, limit = error.kind == "auth", error.kind == "rate-limit" and error.retry_after is not None
        if refusal:
            self._refusals.add(watch)
            self._refused = self._adapter.token_version()
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
            self._breaker.open(due, limited=error.retry_after is not None, refusal=refusal)
        if watch.dropped:
            self._refusals.discard(watch)
            self._keep_looking_at_token()
        self._watches.publish_failure(watch, error, round(due - now, 3), own=True)
        if not self._watches.release_if_over(watch):
            self._turns.put(watch, due)
        return error if opens else None

    async def _hold(self, error: UpstreamError) -> None:
        """Pause polling for the account; afterwards one job is polled first, and the others after it.

        For a refused token and for an outage, each job that waits publishes that once. A rate limit is an ordinary way
        for an upstream to pace its clients: only the job that met it publishes it.
        """
        first_time = self._breaker.openings == 1
        self._turns.spread_waiting(self._breaker.until, self._under_way)
        if first_time and error.kind != "rate-limit":
            now = self._clock.monotonic()
            waiting = [watch for watch in self._watches if watch.failures == 0 and watch not in self._under_way]
            await self._watches.for_each(
                waiting,
                lambda watch: self._watches.publish_backoff(
                    watch, error, round(max(0.0, self._turns.due(watch) - now), 3)
                ),
            )

    async def _end(self) -> None:
        """Leave no task behind, and every job with a turn, in case that `run` is called again."""
        await self._requests.cancel()
        await self._alarm.stop()
        self._under_way.clear()
        self._fetching.clear()
        self._breaker.abandon()
        self._turns.spread_waiting(self._clock.monotonic(), self._under_way)
        self._alarm.ring()
