"""A memory budget that many requests share: once it is exceeded, the largest holders are evicted."""

from typing import Protocol

__all__ = ["Holder", "MemoryBudget"]


class Holder(Protocol):
    """Holds a part of the budget."""

    def evict(self) -> None:
        """Release the memory at once: the budget is exceeded."""


class MemoryBudget:
    """At most *limit* bytes in all. A holder is never evicted while there is a larger one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Holder, int] = {}
        self._sum = 0

    @property
    def used(self) -> int:
        """The number of bytes held now."""
        return self._sum

    def reserve(self, holder: Holder, size: int) -> None:
        """Count *size* more bytes for *holder*. If the sum exceeds the limit, the largest holders are evicted."""
        self._held[holder] = self._held.get(holder, 0) + size
        self._sum += size
        while self._sum > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            self.release(largest)
            largest.evict()

    def release(self, holder: Holder) -> None:
        """Count nothing for *holder* any more. Idempotent."""
        self._sum -= self._held.pop(holder, 0)
