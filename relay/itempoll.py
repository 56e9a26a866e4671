"""Polls of an upstream that is asked for each job by itself: each job at its own time, all within one budget."""

import asyncio
import math
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from relay.breaker import Breaker, back_off, is_of_the_account
from relay.budget import Budget
from relay.cadence import SHORTEST
from relay.errors import UpstreamError
from relay.jobs import Job
from relay.observations import Answer
from relay.subscription import Notify
from relay.upstreams.base import FetchesResults, Upstream
from relay.watch import TOKEN_CHECK, Question, Watch, Watches

__all__ = ["ItemPolls"]

SLACK: Final = 0.02
"""Seconds between two looks at what is due, and the most that an answer waits for those that were asked for with it.

Of 5,000 jobs at 2.5 s, forty then share one timer and one commit.
"""


class Heard(NamedTuple):
    """What came of one request."""

    watch: Watch
    said: tuple[Answer, float] | UpstreamError
    fetched: bool


class ItemPolls:
    """A heap of due times, a few requests under way at once, and a breaker over the whole account.

    No job has a task of its own: one loop says what was heard, and asks for what is due.
    """

    def __init__(self, upstream: Upstream, watches: Watches, notify: Notify) -> None:
        self._upstream = upstream
        self._watches = watches
        self._clock = watches.clock
        self._notify = notify
        self._budget = Budget(watches.pace.requests_per_second)
        self._breaker = Breaker()
        self._refused: object = None
        self._newcomers: list[Watch] = []
        self._heap: list[tuple[float, int, Watch]] = []
        self._numbers = count()
        self._requests: set[asyncio.Task[None]] = set()
        self._asking: set[Watch] = set()
        self._heard: list[Heard] = []
        self._nudged = asyncio.Event()
        self._hurried = False
        self._looked_at = -math.inf
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = math.inf

    def watch(self, job: Job, elapsed: float) -> None:
        self._newcomers.append(self._watches.add(job, elapsed))
        self._hurry()

    def wake(self, job: Job) -> None:
        watch = self._watches.of(job)
        if watch is None or watch.news:
            return
        watch.news = True
        if watch.turn >= 0 and self._hurries(watch):
            self._put(watch, watch.due)
            self._hurry()

    async def run(self) -> None:
        try:
            while True:
                await self._until(self._next_at())
                try:
                    await self._say_what_was_heard()
                    self._welcome()
                    await self._ask_what_is_due()
                except Exception as error:
                    self._notify(f"upstream {self._upstream.name}: a round of polling broke off: {error!r}")
                    self._spread(self._clock.monotonic() + self._watches.pace.interval)
        finally:
            await self._end()

    def _next_at(self) -> float:
        """When there is something to do, unless something is heard before."""
        now = self._clock.monotonic()
        if not self._heap:
            return math.inf
        at = self._heap[0][0]
        if self._breaker.state == "open":
            return at if self._refused is None else min(at, now + TOKEN_CHECK)
        if self._breaker.state == "half-open" or len(self._asking) >= self._watches.pace.connections:
            # What is under way will be heard of; a job whose deadline comes first waits that long.
            return math.inf
        return at if at > now else self._budget.ready_at(now)

    def _hurry(self) -> None:
        self._hurried = True
        self._nudged.set()

    async def _until(self, when: float) -> None:
        """Return at *when*, or as soon as something is heard."""
        now = self._clock.monotonic()
        if not self._nudged.is_set():
            self._ring_by(max(when, now + SLACK))
            await self._nudged.wait()
        self._nudged.clear()

    def _ring_by(self, at: float) -> None:
        if self._alarm is None or self._alarm.done() or self._alarm_at > at:
            self._set_alarm(at)

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, at
        if at < math.inf:
            self._alarm = asyncio.create_task(self._ring(at - self._clock.monotonic()))

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._nudged.set()

    def _welcome(self) -> None:
        """Spread the first polls of jobs that came together over an interval; one that came alone has it at once."""
        newcomers, self._newcomers = self._newcomers, []
        start = self._clock.monotonic()
        if self._breaker.state != "closed":
            start = max(start, self._breaker.until)
        for number, watch in enumerate(newcomers):
            self._put(watch, start + self._watches.pace.interval * number / len(newcomers))

    def _put(self, watch: Watch, due: float) -> None:
        watch.due = due
        if self._hurries(watch):
            watch.due = self._soonest(watch)
        watch.turn = next(self._numbers)
        heappush(self._heap, (min(watch.due, watch.ends_at(self._watches.pace)), watch.turn, watch))

    def _hurries(self, watch: Watch) -> bool:
        """Whether news of the job brings its poll forward: not while polls of it, or of the account, are held off."""
        return (
            watch.news and not watch.failures and self._breaker.state == "closed" and watch.due > self._soonest(watch)
        )

    def _soonest(self, watch: Watch) -> float:
        return max(self._clock.monotonic(), watch.began + SHORTEST)

    async def _ask_what_is_due(self) -> None:
        """Ask, as far as connections and budget go. Jobs past their deadlines end here, a few at a time."""
        now, over = self._clock.monotonic(), list[Watch]()
        if not self._hurried and now < self._looked_at + SLACK:
            return
        self._hurried, self._looked_at = False, now
        if self._breaker.state == "open" and self._refused not in (None, self._watches.credential()):
            self._breaker.try_now(now)
            self._spread(now)
        with self._watches.bus.batch(soon=True):
            while self._heap and self._heap[0][0] <= now:
                _, turn, watch = self._heap[0]
                stale, is_over = turn != watch.turn, watch.is_over(now, self._watches.pace)
                if is_over and not stale:
                    over.append(watch)
                if is_over or stale or not self._watches.goes_on(watch):
                    heappop(self._heap)
                    continue
                if watch.due > now:
                    heappop(self._heap)
                    self._put(watch, watch.due)
                    continue
                if not (self._may_ask(now) and self._budget.take(now)):
                    self._hurried = True
                    break
                heappop(self._heap)
                self._breaker.try_out()
                watch.turn, watch.news = -1, False
                self._watches.checking(watch)
                self._request(watch, self._upstream.observe, fetched=False)
        await self._watches.for_each(over, self._watches.goes_on)

    def _may_ask(self, now: float) -> bool:
        return len(self._asking) < self._watches.pace.connections and self._breaker.allows(now)

    def _request(self, watch: Watch, question: Question, *, fetched: bool) -> None:
        self._asking.add(watch)
        request = asyncio.create_task(self._ask(watch, question, fetched=fetched))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)

    async def _ask(self, watch: Watch, question: Question, *, fetched: bool) -> None:
        said: tuple[Answer, float] | UpstreamError
        try:
            said = await self._watches.ask(question, [watch])
        except UpstreamError as error:
            said = error
        self._heard.append(Heard(watch, said, fetched))
        if self._hurried or len(self._heard) >= len(self._asking):
            self._nudged.set()
        elif len(self._heard) == 1:
            self._ring_by(self._clock.monotonic() + SLACK)

    async def _say_what_was_heard(self) -> None:
        """Publish what has been answered since the last time, in one commit of the journal."""
        heard, self._heard = self._heard, []
        self._asking.difference_update(one.watch for one in heard)
        was_closed = self._breaker.state == "closed"
        trouble: UpstreamError | None = None
        with self._watches.bus.batch(soon=True):
            for one in heard:
                trouble = self._say(one) or trouble
        if trouble is not None:
            await self._hold(trouble)
        elif not was_closed and self._breaker.state == "closed":
            self._refused = None
            self._spread(self._clock.monotonic())

    def _say(self, heard: Heard) -> UpstreamError | None:
        """Publish what came of one request. Return the error with which the account is to be left alone, if any."""
        watch, watches = heard.watch, self._watches
        try:
            if isinstance(heard.said, UpstreamError):
                raise heard.said
            answer, seconds = heard.said
            if heard.fetched:
                watches.fetched(watch, answer)
            elif watches.listed(watch, answer, seconds) and isinstance(self._upstream, FetchesResults):
                self._request(watch, self._upstream.fetch_result, fetched=True)
                return None
        except UpstreamError as error:
            return self._failed(watch, error)
        self._breaker.close()
        if watches.goes_on(watch):
            self._put(watch, watch.began + watches.delay(watch, watches.chance()))
        return None

    def _failed(self, watch: Watch, error: UpstreamError) -> UpstreamError | None:
        now, pace, chance = self._clock.monotonic(), self._watches.pace, self._watches.chance()
        # A task that was refused before, while others were answered since, is itself the trouble.
        forbidden = error.kind == "auth" and watch.failures > 0 and self._breaker.state == "closed"
        of_the_account = is_of_the_account(error.kind) and not forbidden
        at_once = error.kind == "auth" or (error.kind == "rate-limit" and error.retry_after is not None)
        opens = of_the_account and self._breaker.counts(at_once=at_once)
        if not of_the_account:
            self._breaker.close()
        in_a_row = max(watch.failures, self._breaker.openings) + 1
        due = now + back_off(pace, in_a_row, error, chance)
        if self._breaker.state == "open":
            due = max(due, self._breaker.until + chance * pace.interval)
        if opens:
            self._breaker.open(due)
        self._watches.failed(watch, error, round(due - now, 3), own=True)
        if self._watches.goes_on(watch):
            self._put(watch, due)
        return error if opens else None

    async def _hold(self, error: UpstreamError) -> None:
        """Leave the account alone, so that one job asks first when that is over, and the others after it.

        Where that lasts, each job that waits for it says so, once: for a refused token, or an outage. A rate limit is
        how an upstream paces us, and is told by the job that met it.
        """
        first_time = self._breaker.openings == 1
        if error.kind == "auth":
            self._refused = self._watches.credential()
        self._spread(self._breaker.until)
        if first_time and error.kind != "rate-limit":
            now = self._clock.monotonic()
            waiting = [watch for watch in self._watches if watch.failures == 0 and watch not in self._asking]
            await self._watches.for_each(
                waiting, lambda watch: self._watches.waits(watch, error, round(max(0.0, watch.due - now), 3))
            )

    def _spread(self, start: float) -> None:
        """Let all jobs that are not being asked have their turns within an interval from *start* on."""
        pace = self._watches.pace
        waiting = sorted((watch for watch in self._watches if watch not in self._asking), key=lambda watch: watch.due)
        self._heap, self._newcomers = [], []
        for number, watch in enumerate(waiting):
            turn = start + pace.interval * number / len(waiting)
            self._put(watch, max(turn, watch.began + self._watches.delay(watch, 0.0)))

    async def _end(self) -> None:
        """Leave no task behind."""
        tasks = [*self._requests, *([self._alarm] if self._alarm is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
