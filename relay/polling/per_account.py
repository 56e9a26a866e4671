"""Polls of an upstream whose one answer is about all jobs of an account: one request an interval."""

import math
from asyncio import FIRST_COMPLETED, Event, Task, create_task, gather, wait
from collections.abc import Callable

from relay.errors import UpstreamError
from relay.jobs.state import Job
from relay.notices import Notify
from relay.pace import MIN_DELAY
from relay.polling.adapter_requests import AdapterRequests
from relay.polling.breaker import back_off
from relay.polling.watch import Watch
from relay.polling.watches import LINGER, TOKEN_CHECK, Watches
from relay.upstreams.base import FetchesResults, Upstream

__all__ = ["PerAccountPolling"]


class PerAccountPolling:
    """Polls all jobs of an upstream in rounds, with one request a round."""

    def __init__(self, upstream: Upstream, adapter: AdapterRequests, watches: Watches, notify: Notify) -> None:
        self._upstream = upstream
        self._adapter = adapter
        self._watches = watches
        self._clock = watches.clock
        self._notify = notify
        self._arrived = Event()
        self._began = self._next_at = -math.inf
        self._refused: object = None
        self._paused = False
        self._news = Event()
        self._failing = self._limited = False
        self._failures = self._failed_fetches = 0
        self._fetch_at = -math.inf

    def watch(self, job: Job, elapsed: float, held_off: float = 0.0) -> None:
        self._watches.add(job, elapsed)
        if held_off:
            self._failing, self._next_at = True, max(self._next_at, self._clock.monotonic() + held_off)
        self._arrived.set()

    def drop(self, job: Job) -> None:
        self._watches.drop(job)

    def wake(self, job: Job) -> None:
        if self._watches.of(job) is not None:
            self._news.set()

    def recovered(self) -> None:
        """The upstream has just accepted a submission: poll again within the pace, unless it wants more time."""
        if self._failing and not self._limited:
            self._paused = False
            self._next_at = min(self._next_at, self._began + self._watches.pace.interval)
            self._news.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._sleep_until_next()
            running = self._watches.running()
            if not running:
                self._arrived.clear()
                continue
            self._news.clear()
            self._began = self._clock.monotonic()
            self._next_at = self._began + self._watches.pace.interval
            try:
                await self._round(running)
            except Exception as error:
                self._notify(f"upstream {self._upstream.name}: a round of polling broke off: {error!r}")

    async def _sleep_until_next(self) -> None:
        """Wait for the next round. A job whose deadline comes first brings it forward, within the pace."""
        pace = self._watches.pace
        while (running := self._watches.running()) and (now := self._clock.monotonic()) < self._next_at:
            if self._paused and (version := self._adapter.token_version()) != self._refused:
                self._refused = version
                self._next_at = min(self._next_at, self._began + pace.interval)
                continue
            if self._news.is_set() and not self._failing:
                self._next_at = min(self._next_at, max(now, self._began + MIN_DELAY))
            last = min(watch.last_poll_at(pace) for watch in running)
            self._next_at = min(self._next_at, max(last, self._began + pace.least))
            left = max(0.0, self._next_at - now)
            seconds = min(left, TOKEN_CHECK) if self._paused else left
            await (self._clock.sleep(seconds) if self._news.is_set() else self._sleep_until_news(seconds))

    async def _sleep_until_news(self, seconds: float) -> None:
        waits: list[Task[object]] = [create_task(self._clock.sleep(seconds)), create_task(self._news.wait())]
        try:
            await wait(waits, return_when=FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await gather(*waits, return_exceptions=True)

    def _chosen(self, running: list[Watch]) -> list[Watch]:
        """The jobs of the next request: all; but one while a token is refused, to see whether it still is.

        If jobs are overdue while a token is refused, they come first, as no job ends without a last poll.
        """
        if not self._paused:
            return running
        overdue = [watch for watch in running if watch.overdue_at <= self._began]
        return overdue or running[:1]

    async def _round(self, running: list[Watch]) -> None:
        """Send one request about the jobs, and fetch the results of those that have left the list."""
        polled = self._chosen(running)
        await self._watches.for_each(polled, self._watches.publish_checking, linger=LINGER)
        try:
            answered = await self._adapter.request(self._upstream.observe, polled)
        except UpstreamError as error:
            return await self._back_off(polled, error)
        if answered is None:
            return None
        answer, seconds = answered
        self._paused = self._failing = self._limited = False
        self._failures = 0
        may_fetch = self._began >= self._fetch_at
        reading = _Reading(lambda watch: self._watches.publish_answer(watch, answer, seconds, may_fetch=may_fetch))
        await self._watches.for_each(polled, reading)
        chance = self._watches.chance()
        self._next_at = self._began + self._watches.soonest(polled, chance)
        await self._publish_unread(reading.unread)
        await self._end_spent(polled)
        if reading.fetching and isinstance(self._upstream, FetchesResults):
            await self._fetch(self._upstream, reading.fetching)

    async def _fetch(self, upstream: FetchesResults, fetching: list[Watch]) -> None:
        """Send one request for the results of *fetching*."""
        try:
            answered = await self._adapter.request(upstream.fetch_result, fetching)
        except UpstreamError as error:
            return await self._hold_fetches(fetching, error)
        if answered is None:
            return None
        answer, _ = answered
        self._failed_fetches = 0
        reading = _Reading(lambda watch: self._watches.publish_result(watch, answer))
        await self._watches.for_each(fetching, reading)
        await self._publish_unread(reading.unread)
        await self._end_spent(fetching)

    async def _end_spent(self, polled: list[Watch]) -> None:
        """End the jobs that were overdue when they were polled, and are still at work."""
        await self._watches.for_each([watch for watch in polled if watch.spent], self._watches.end_if_overdue)

    async def _publish_unread(self, unread: list[tuple[Watch, UpstreamError]]) -> None:
        """Publish for which jobs the answer could not be read. These polls failed; the round did not."""
        delay = round(max(0.0, self._next_at - self._clock.monotonic()), 3)
        await self._watches.for_each(unread, lambda entry: self._watches.publish_failure(*entry, delay, own=True))

    async def _hold_fetches(self, fetching: list[Watch], error: UpstreamError) -> None:
        """Publish that the results could not be fetched, and fetch none for a while; jobs are polled as before.

        A rate limit is the exception: it holds for all requests of the account.
        """
        if error.kind == "rate-limit":
            return await self._back_off(fetching, error)
        self._failed_fetches += 1
        delay = back_off(self._watches.pace, self._failed_fetches, error, self._watches.chance())
        self._fetch_at = self._began + delay
        await self._watches.for_each(
            fetching, lambda watch: self._watches.publish_failure(watch, error, delay, own=False)
        )

    async def _back_off(self, polled: list[Watch], error: UpstreamError) -> None:
        """Publish that the poll failed and when the next one is: later each time, or when the upstream wants it.

        An error of the list is not about any one job, so it ends none. A refused token stops the whole account: each
        of its jobs publishes that once, and from then on one job is polled for all.
        """
        self._failures += 1
        now, pace = self._clock.monotonic(), self._watches.pace
        due = now + back_off(pace, self._failures, error, self._watches.chance())
        self._next_at = min((at for watch in polled if (at := watch.fitted(due, pace)) > due), default=due)
        delay = round(self._next_at - now, 3)
        self._failing, self._limited = True, error.retry_after is not None
        affected = polled
        if error.kind == "auth":
            affected = polled if self._paused else self._watches.running()
            self._paused, self._refused = True, self._adapter.token_version()
        await self._watches.for_each(
            affected, lambda watch: self._watches.publish_failure(watch, error, delay, own=False)
        )


class _Reading:
    """Reads an answer for one job after the other: collects the jobs to fetch, and those whose entry is unreadable."""

    def __init__(self, publish: Callable[[Watch], object]) -> None:
        self.fetching: list[Watch] = []
        self.unread: list[tuple[Watch, UpstreamError]] = []
        self._publish = publish

    def __call__(self, watch: Watch) -> None:
        try:
            if self._publish(watch):
                self.fetching.append(watch)
        except UpstreamError as error:
            self.unread.append((watch, error))
