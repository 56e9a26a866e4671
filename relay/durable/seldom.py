"""Notices that would otherwise come with every record."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from relay.clock import Clock
from relay.notices import Notify

__all__ = ["AGAIN_AFTER", "Seldom"]

AGAIN_AFTER: Final = 60.0


class Seldom:
    """Notifies the operator of each kind of trouble once in AGAIN_AFTER seconds, with the sum of the numbers since."""

    def __init__(self, notify: Notify, clock: Clock) -> None:
        self._notify = notify
        self._clock = clock
        self._sums: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    def __call__(self, kind: str, text: Callable[[int], str], number: int = 1) -> None:
        """Add *number* to the sum of this *kind*; *text* makes the notice from the sum."""
        self._sums[kind] += number
        now = self._clock.monotonic()
        if kind not in self._last or now >= self._last[kind] + AGAIN_AFTER:
            self._last[kind] = now
            self._notify(text(self._sums.pop(kind)))
