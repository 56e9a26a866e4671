"""The request budget of an account, of which polls are not the only use."""

from relay.polling.token_bucket import TokenBucket
from relay.upstreams.base import CountsRequests, Upstream

__all__ = ["RequestBudget"]


class RequestBudget:
    """So many requests a second (`TokenBucket`); those that the adapter makes by itself count as well."""

    def __init__(self, rate: float, upstream: Upstream) -> None:
        self._bucket = TokenBucket(rate)
        self._counter = upstream if isinstance(upstream, CountsRequests) else None
        self._counted = 0

    def take(self, now: float) -> bool:
        """Whether the budget has room for one more request; if so, it is counted."""
        taken = self._bucket.take(now)
        self._counted += taken
        return taken

    def count_others(self, now: float) -> None:
        """Count the adapter's other requests as well: for files, submissions and cancellations."""
        if self._counter is not None:
            others = self._counter.requests - self._counted
            self._bucket.spend(others, now)
            self._counted += max(0, others)

    def ready_at(self, now: float) -> float:
        """When the next request may be made: *now*, or later."""
        return self._bucket.ready_at(now)
