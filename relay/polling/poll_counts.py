"""What the polls of one upstream have come to: plain integers, which a scrape of the metrics reads."""

from collections import Counter
from typing import Final, get_args

from relay.bus.histogram import Histogram
from relay.errors import ErrorKind

__all__ = ["LATENCY_BOUNDS", "PollCounts"]

LATENCY_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: an answer of a list of jobs takes 0.1 to 2, and a request is abandoned after 10 to 30."""


class PollCounts:
    """Counts requests for the state or the result of jobs, one for each request, however many jobs it is about."""

    def __init__(self, now: float) -> None:
        """*now* is the monotonic time at which polling begins."""
        self.answered: int = 0
        self.failed: Counter[ErrorKind] = Counter(dict.fromkeys(get_args(ErrorKind), 0))
        """By kind of error; every kind is there, since the first of a new series would be no increase of it."""
        self.latency: Histogram = Histogram(LATENCY_BOUNDS)
        """Seconds from a request to its answer."""
        self._answered_at = now

    def answer(self, now: float, seconds: float) -> None:
        """Count a good answer, which came *now*, *seconds* after its request."""
        self.answered += 1
        self.latency.observe(seconds)
        self._answered_at = now

    def failure(self, kind: ErrorKind) -> None:
        """Count a request that failed."""
        self.failed[kind] += 1

    def age(self, now: float) -> float:
        """Seconds since the last good answer, or since polling began where there was none."""
        return max(0.0, now - self._answered_at)
