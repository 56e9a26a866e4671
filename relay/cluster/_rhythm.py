"""When a node renews its leases, and when it looks at those of the others. No I/O, and no clock of its own."""

from math import inf
from typing import Final

__all__ = ["LOOK_EVERY", "POLL_FOR", "RENEW_EVERY", "Rhythm"]

LOOK_EVERY: Final = 1 / 10
RENEW_EVERY: Final = 1 / 3
POLL_FOR: Final = 2 / 3
"""Parts of a lease. The last third is for requests that are under way when polling stops, and for clocks that drift."""


class Rhythm:
    """The times of one node, which began at *now*, with a lease of *lease* seconds; all of its own clock."""

    def __init__(self, lease: float, now: float) -> None:
        self._lease = lease
        self._began = now
        self._renewed_at = -inf
        self._unanswered = False
        self._renew_at = self._look_at = now

    @property
    def due_at(self) -> float:
        """When the next request is due."""
        return self._look_at if self._unanswered else min(self._renew_at, self._look_at)

    def since_renewal(self, now: float) -> float:
        """Seconds since the start of the last successful renewal, or since the node began."""
        return now - max(self._renewed_at, self._began)

    def renewal_is_due(self, now: float) -> bool:
        """Whether to renew now. After a renewal that was not answered, a look is answered first.

        Renewals that arrive, while their replies do not, would keep leases for ever for a node that polls nothing.
        """
        return not self._unanswered and now >= self._renew_at

    def renewed(self, asked: float) -> None:
        """A renewal that was sent at *asked* is answered. Its lease counts from there: the reply may be late."""
        self._unanswered = False
        self._renewed_at = asked
        self._renew_at = asked + RENEW_EVERY * self._lease

    def renewal_failed(self) -> None:
        """Nobody knows whether a renewal took place."""
        self._unanswered = True
        self._renew_at = -inf

    def look_is_due(self, now: float) -> bool:
        return now >= self._look_at

    def looks(self, now: float) -> None:
        """A look begins."""
        self._look_at = now + LOOK_EVERY * self._lease

    def looked(self) -> None:
        """A look is answered."""
        self._unanswered = False

    def renew_soon(self) -> None:
        """Something has changed that a renewal mends."""
        self._renew_at = -inf

    def look_soon(self) -> None:
        """Something has changed that a look shows."""
        self._look_at = -inf
