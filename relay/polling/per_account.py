"""What asks an upstream: one request an interval for all jobs, or for each job one at its own time."""

import math
import random
from asyncio import FIRST_COMPLETED, Event, Task, create_task, gather, wait
from collections.abc import Callable

from relay.breaker import back_off
from relay.bus import Bus
from relay.cadence import SHORTEST, Pace
from relay.clock import Clock
from relay.errors import UpstreamError
from relay.itempoll import ItemPolls
from relay.jobs import Job
from relay.subscription import Notify, notice
from relay.upstreams.base import FetchesResults, Upstream, is_item_type, pace_of
from relay.watch import TOKEN_CHECK, Watch, Watches

__all__ = ["Poller"]


class Poller:
    """Asks one upstream about all its jobs, and publishes what follows. It has no logger and no stream.

    A job is polled from the next tick after `watch` until its terminal record. Polls are one interval apart, counted
    from start to start on the monotonic clock: a slow answer or a suspended machine never causes a burst. *pace* is
    when the upstream may be asked, by default what its adapter says. *jitter* returns a number from 0 to 1.
    """

    def __init__(
        self,
        upstream: Upstream,
        bus: Bus,
        clock: Clock,
        *,
        pace: Pace | None = None,
        notify: Notify = notice,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        watches = Watches(upstream, bus, clock, pace or pace_of(upstream), notify, jitter)
        self._polls = (ItemPolls if is_item_type(upstream) else ListPolls)(upstream, watches, notify)

    def watch(self, job: Job, *, elapsed: float = 0.0) -> None:
        """Poll *job*, which has been running for *elapsed* seconds already, until it ends."""
        self._polls.watch(job, elapsed)

    def wake(self, job: Job) -> None:
        """Poll *job* as soon as may be: its upstream says that there is news.

        That is at once, but SHORTEST after the start of its last poll at the earliest. News while a poll is under way
        brings one more. While polls fail, the back-off holds: what was asked for in Retry-After comes first.
        """
        self._polls.wake(job)

    async def run(self) -> None:
        """Poll until cancelled. Whatever goes wrong in a round is said, and the next round comes."""
        await self._polls.run()


class ListPolls:
    """The polls of an upstream whose one answer is about all jobs: in rounds, each of one request."""

    def __init__(self, upstream: Upstream, watches: Watches, notify: Notify) -> None:
        self._upstream = upstream
        self._watches = watches
        self._clock = watches.clock
        self._notify = notify
        self._arrived = Event()
        self._began = self._next_at = -math.inf
        self._refused: object = None
        self._paused = False
        self._news = Event()
        self._failing = False

    def watch(self, job: Job, elapsed: float) -> None:
        self._watches.add(job, elapsed)
        self._arrived.set()

    def wake(self, job: Job) -> None:
        if self._watches.of(job) is not None:
            self._news.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._sleep_until_next()
            running = await self._watches.running()
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
        """Wait for the next round; a job whose deadline comes first ends on time."""
        while (running := await self._watches.running()) and (now := self._clock.monotonic()) < self._next_at:
            if self._paused and (credential := self._watches.credential()) != self._refused:
                self._refused = credential
                self._next_at = min(self._next_at, self._began + self._watches.pace.interval)
                continue
            if self._news.is_set() and not self._failing:
                self._next_at = min(self._next_at, max(now, self._began + SHORTEST))
            wake = min(self._next_at, *(watch.ends_at(self._watches.pace) for watch in running))
            seconds = min(wake - now, TOKEN_CHECK) if self._paused else wake - now
            await (self._clock.sleep(seconds) if self._news.is_set() else self._sleep_or_news(seconds))

    async def _sleep_or_news(self, seconds: float) -> None:
        waits: list[Task[object]] = [create_task(self._clock.sleep(seconds)), create_task(self._news.wait())]
        try:
            await wait(waits, return_when=FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await gather(*waits, return_exceptions=True)

    async def _round(self, running: list[Watch]) -> None:
        """Ask once about every job; while the account's token is refused, about one, to see whether it still is."""
        asked = running[:1] if self._paused else running
        await self._watches.for_each(asked, self._watches.checking)
        try:
            answer, seconds = await self._watches.ask(self._upstream.observe, asked)
        except UpstreamError as error:
            return await self._back_off(asked, error)
        self._paused = self._failing = False
        reading = _Reading(lambda watch: self._watches.listed(watch, answer, seconds))
        await self._watches.for_each(asked, reading)
        chance = self._watches.chance()
        self._next_at = self._began + self._watches.soonest(asked, chance)
        await self._tell(reading.unread)
        if reading.fetching and isinstance(self._upstream, FetchesResults):
            await self._fetch(self._upstream, reading.fetching)

    async def _fetch(self, upstream: FetchesResults, fetching: list[Watch]) -> None:
        """Look once for the results of *fetching*."""
        try:
            answer, _ = await self._watches.ask(upstream.fetch_result, fetching)
        except UpstreamError as error:
            return await self._back_off(fetching, error)
        reading = _Reading(lambda watch: self._watches.fetched(watch, answer))
        await self._watches.for_each(fetching, reading)
        await self._tell(reading.unread)

    async def _tell(self, unread: list[tuple[Watch, UpstreamError]]) -> None:
        """Say for which jobs the answer could not be read. These polls failed; the round did not."""
        delay = round(max(0.0, self._next_at - self._clock.monotonic()), 3)
        await self._watches.for_each(unread, lambda said: self._watches.failed(*said, delay, own=True))

    async def _back_off(self, asked: list[Watch], error: UpstreamError) -> None:
        """Say that the poll failed and when the next one is: later each time, or when the upstream asked for it.

        What is said of the list is not said of any one job, so it ends none. A refused token stops the whole account,
        and each of its jobs says so once; from then on one job asks for all.
        """
        in_a_row = 1 + max(watch.failures for watch in asked)
        delay = back_off(self._watches.pace, in_a_row, error, self._watches.chance())
        self._next_at = self._clock.monotonic() + delay
        self._failing = True
        told = asked
        if error.kind == "auth":
            told = asked if self._paused else await self._watches.running()
            self._paused, self._refused = True, self._watches.credential()
        await self._watches.for_each(told, lambda watch: self._watches.failed(watch, error, delay, own=False))


class _Reading:
    """Reads an answer for one job after the other, and remembers which are to be fetched, and which it was not for."""

    def __init__(self, read: Callable[[Watch], bool]) -> None:
        self.fetching: list[Watch] = []
        self.unread: list[tuple[Watch, UpstreamError]] = []
        self._read = read

    def __call__(self, watch: Watch) -> None:
        try:
            if self._read(watch):
                self.fetching.append(watch)
        except UpstreamError as error:
            self.unread.append((watch, error))
