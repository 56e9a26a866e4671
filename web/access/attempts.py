"""Failed attempts to prove an access: an address that fails often has to wait. The time is handed in."""

import math
from collections.abc import Callable
from typing import Final

__all__ = ["MOST_ADDRESSES", "FailedAttempts"]

MOST_ADDRESSES: Final = 10_000
"""How many addresses are remembered; the one that has not failed for longest is forgotten first."""

_MINUTE: Final = 60.0


class FailedAttempts:
    """Each address may fail *most* times at once, and as many more times in each minute. *now* is in seconds."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self.most = most
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, address: str) -> int:
        """The whole seconds that *address* has to wait before its next attempt; 0 for none."""
        left = self._attempts(address)
        return 0 if left >= 1.0 else max(1, math.ceil((1.0 - left) * _MINUTE / self.most))

    def failed(self, address: str) -> None:
        """Count a failure of *address*."""
        left = self._attempts(address)
        self._left.pop(address, None)
        if len(self._left) >= MOST_ADDRESSES:
            del self._left[next(iter(self._left))]
        self._left[address] = (max(0.0, left - 1.0), self._now())

    def fields(self, address: str) -> dict[str, str]:
        """The fields of an answer to *address* that has to wait ([spec] draft-ietf-httpapi-ratelimit-headers)."""
        wait = self.wait(address)
        return {
            "Retry-After": str(wait),
            "RateLimit-Policy": f'"failures";q={self.most};w=60',
            "RateLimit": f'"failures";r={int(self._attempts(address))};t={wait}',
        }

    def _attempts(self, address: str) -> float:
        left, at = self._left.get(address, (float(self.most), 0.0))
        return min(float(self.most), left + (self._now() - at) * self.most / _MINUTE)
