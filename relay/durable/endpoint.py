"""The breaker of one far end: while it seems to be down, one delivery at a time finds out whether it is back."""

from random import Random
from typing import Final

from relay.queue import Retries
from relay.queue.counts import Breaker

__all__ = ["OPEN_AFTER", "PROBED_WITHIN", "Endpoint"]

OPEN_AFTER: Final = 5
"""Failures in a row, of two jobs or more: a record that the far end refuses for itself does not stop the others."""

PROBED_WITHIN: Final = 60.0
"""Seconds between two probes at most: one request a minute is little for a host, and its return is soon noticed."""


class Endpoint:
    """Counts the failures of one far end, by the jobs that they happened to. All times are monotonic seconds."""

    def __init__(self, retries: Retries, random: Random) -> None:
        self._retries = retries
        self._random = random
        self._streak = 0
        self._jobs: set[str] = set()
        self._not_before = 0.0
        self._probing = False

    @property
    def state(self) -> Breaker:
        """`closed` while deliveries are made as they come, `open` while none is, `half-open` during a probe."""
        if not self.is_open:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def is_open(self) -> bool:
        """Whether the far end as a whole seems to be down."""
        return self._streak >= OPEN_AFTER and len(self._jobs) > 1

    @property
    def is_failing(self) -> bool:
        """Whether the latest delivery failed."""
        return self._streak > 0

    @property
    def not_before(self) -> float:
        """The time before which nothing is delivered."""
        return self._not_before

    def admits(self, now: float) -> bool:
        """Whether a delivery may begin."""
        return now >= self._not_before and not (self.is_open and self._probing)

    def begin(self) -> None:
        """A delivery begins."""
        self._probing = self.is_open

    def answered(self) -> bool:
        """A delivery was answered; return whether the far end is back, so that all that waits for it is due at once."""
        recovered = self._streak >= OPEN_AFTER
        self._streak = 0
        self._jobs.clear()
        self._not_before = 0.0
        self._probing = False
        return recovered

    def failed(self, job: str, now: float, after: float | None) -> None:
        """A delivery of *job* failed. With *after*, the far end itself wants nothing for so many seconds."""
        self._streak += 1
        if len(self._jobs) < 2:
            self._jobs.add(job)
        self._probing = False
        if after is not None:
            self.pause(now + after)
        elif self.is_open:
            delay = min(self._retries.cap, self._retries.base * 2 ** min(self._streak - OPEN_AFTER, 30), PROBED_WITHIN)
            self._not_before = now + delay * self._random.uniform(0.5, 1.0)

    def pause(self, until: float) -> None:
        """Deliver nothing before that time."""
        self._not_before = max(self._not_before, until)
