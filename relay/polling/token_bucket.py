"""A request budget: a token bucket. Pure: the time is handed in."""

from typing import Final

__all__ = ["TokenBucket"]

_BURST_SECONDS: Final = 0.1


class TokenBucket:
    """So many requests a second, and no more than a tenth of a second's worth at once. A rate of 0 is no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * _BURST_SECONDS)
        self._left = self._burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more request may be made now; if so, it is counted."""
        if self._rate <= 0:
            return True
        self._refill(now)
        # A sum of fractions may lack the last bit of a whole.
        if self._left < 1.0 - 1e-9:
            return False
        self._left -= 1.0
        return True

    def spend(self, requests: int, now: float) -> None:
        """Count *requests* that were made without `take`: later ones wait until they are made up for."""
        if self._rate > 0 and requests > 0:
            self._refill(now)
            self._left -= requests

    def ready_at(self, now: float) -> float:
        """When the next request may be made: *now*, or later."""
        if self._rate <= 0:
            return now
        self._refill(now)
        return now + max(0.0, 1.0 - self._left) / self._rate

    def _refill(self, now: float) -> None:
        # A clock that has stood still for an hour fills the bucket, and no more than that.
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
