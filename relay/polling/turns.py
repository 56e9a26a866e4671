"""The turns of the jobs that one upstream answers for one at a time."""

import math
from collections.abc import Collection

from relay.pace import MIN_DELAY
from relay.polling.breaker import Breaker
from relay.polling.due_queue import DueQueue
from relay.polling.watch import Watch
from relay.polling.watches import Watches

__all__ = ["Turns"]


class Turns(DueQueue[Watch]):
    """When each job is polled next. News of it, or its deadline, bring its turn forward; *breaker* holds turns off."""

    def __init__(self, watches: Watches, breaker: Breaker) -> None:
        super().__init__(self._fitted)
        self._watches = watches
        self._breaker = breaker
        self._clock = watches.clock

    def bring_forward(self, watch: Watch) -> bool:
        """Bring the turn of a job with news forward; return whether it may come sooner."""
        if watch in self and self._hurries(watch, due := self.due(watch)):
            self.put(watch, due)
            return True
        return False

    def welcome_newcomers(self) -> None:
        """Spread the first polls of jobs that came together over an interval; a job that came alone has it at once."""
        start = self._clock.monotonic()
        if self._breaker.state != "closed":
            start = max(start, self._breaker.until)
        self.welcome(start, self._watches.pace.interval)

    def next_due(self, now: float) -> Watch | None:
        """The job whose turn it is. In a trial it is one that has failed least, if several are due."""
        if self._breaker.state == "open" and self._breaker.allows(now):
            due = [watch for watch in self.all_due(now) if self._goes_on(watch)]
            return min(due, key=lambda watch: watch.failures, default=None)
        while (watch := self.first_due(now)) is not None and not self._goes_on(watch):
            pass
        return watch

    def spread_waiting(self, start: float, under_way: Collection[Watch]) -> None:
        """Give all jobs but those *under_way* their turns within an interval from *start* on.

        Those that failed least come first, and among them the ones whose turn it was.
        """
        waiting = [watch for watch in self._watches if watch not in under_way]
        waiting.sort(key=lambda watch: (watch.failures, self.due(watch)))
        self.spread(
            waiting,
            start,
            self._watches.pace.interval,
            not_before=lambda watch: watch.began + self._watches.delay(watch, 0.0),
        )

    def _goes_on(self, watch: Watch) -> bool:
        """Whether the job is still to be polled; one that has ended loses its turn."""
        if not self._watches.release_if_over(watch):
            return True
        self.discard(watch)
        return False

    def _fitted(self, watch: Watch, due: float) -> float:
        """*due*, or sooner: news of the job, or its deadline, may bring its poll forward."""
        if self._hurries(watch, due):
            due = self._soonest(watch)
        if self._breaker.state == "closed" or self._breaker.token_refused:
            due = min(due, watch.last_poll_at(self._watches.pace))
        return due

    def _hurries(self, watch: Watch, due: float) -> bool:
        """Whether news brings the poll forward: not while polls of the job, or of the account, are held off."""
        return watch.news and not watch.failures and self._breaker.state == "closed" and due > self._soonest(watch)

    def _soonest(self, watch: Watch) -> float:
        held_off = watch.held_until if watch.began == -math.inf else -math.inf
        return max(self._clock.monotonic(), watch.began + MIN_DELAY, held_off)
