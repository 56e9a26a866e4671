"""Raw exchanges with upstreams, for the streams of operators that request them."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from relay import Exchange
from web.streaming.selection import Selection

__all__ = ["PendingExchanges"]

PENDING_EXCHANGES: Final = 100


class PendingExchanges:
    """Raw exchanges about the jobs of one stream that are still to be sent."""

    def __init__(self, selection: Selection, wake: Callable[[], None]) -> None:
        self._ids = None if selection.jobs is None else frozenset(job.id for job in selection.jobs)
        self._wake = wake
        self._exchanges: deque[Exchange] = deque(maxlen=PENDING_EXCHANGES)

    def __call__(self, exchange: Exchange) -> None:
        if self._ids is None or not self._ids.isdisjoint(exchange.jobs):
            self._exchanges.append(exchange)
            self._wake()

    def next(self) -> dict[str, Any] | None:
        """The oldest one, if any."""
        return msgspec.to_builtins(self._exchanges.popleft()) if self._exchanges else None
