"""The latest withdrawals: an access that was found before one of them may be about to be used."""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeAlias

from web.access.access import Access

__all__ = ["REMEMBERED", "EndsAccess", "Withdrawals"]

EndsAccess: TypeAlias = Callable[[Access], bool]
"""Whether an access has ended with what was withdrawn."""

REMEMBERED: Final = 100
"""How many are remembered. An access that was found before more of them counts as ended."""


class Withdrawals:
    """Counts what was withdrawn, and remembers the latest.

    A request that has found its access may have to wait before its stream is open and can be ended: for its body, or
    for its turn.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._latest: deque[EndsAccess] = deque(maxlen=REMEMBERED)

    def add(self, ends: EndsAccess) -> None:
        """Remember one more."""
        self.count += 1
        self._latest.append(ends)

    def ended(self, access: Access, since: int) -> bool:
        """Whether *access*, which was found while *count* was *since*, has ended meanwhile."""
        later = self.count - since
        if later > len(self._latest):
            return True
        return any(ends(access) for ends in islice(reversed(self._latest), later))
