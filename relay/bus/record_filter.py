"""Which records reach a sink."""

from collections.abc import Callable, Collection

from relay.clock import Clock
from relay.events import LEVELS_FROM, Level, Record

__all__ = ["RecordFilter"]


class RecordFilter:
    """Accepts the records of *level* and above, and terminal ones at every level; of *types* and *where* if given."""

    def __init__(
        self,
        clock: Clock,
        level: Level = "debug",
        types: Collection[str] | None = None,
        where: Callable[[Record], object] | None = None,
    ) -> None:
        self._clock = clock
        self._configured: Level = level
        self._level: Level = level
        self._levels = LEVELS_FROM[level]
        self._types = None if types is None else frozenset(types)
        self._where = where
        self._until: float | None = None

    @property
    def level(self) -> Level:
        """The least level at present."""
        self._expire()
        return self._level

    def set_level(self, level: Level, seconds: float) -> None:
        """Have another least level for *seconds*, and then the configured one again."""
        self._have(level)
        self._until = self._clock.monotonic() + seconds

    def __call__(self, record: Record) -> bool:
        if self._until is not None:
            self._expire()
        event = record.event
        if not (event.level in self._levels or event.terminal):
            return False
        if self._types is not None and event.type not in self._types:
            return False
        return self._where is None or bool(self._where(record))

    def _expire(self) -> None:
        if self._until is not None and self._clock.monotonic() >= self._until:
            self._until = None
            self._have(self._configured)

    def _have(self, level: Level) -> None:
        self._level, self._levels = level, LEVELS_FROM[level]
