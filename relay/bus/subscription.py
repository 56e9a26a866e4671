"""One sink's place on the bus, where it is kept apart from all others."""

import logging
from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

from relay.clock import Clock
from relay.events import Record

__all__ = [
    "PROBE_EVERY",
    "QUARANTINE_AFTER",
    "Notify",
    "Sink",
    "Subscription",
    "Topic",
    "describe",
    "name_of",
    "notice",
]

Sink: TypeAlias = Callable[[Record], object]
"""Hears every record, in order. It must not block and may not publish; it may raise, and nobody else will notice."""

Notify: TypeAlias = Callable[[str], None]
"""Hears what the operator should know about the relay itself: one line, about no job."""

QUARANTINE_AFTER: Final = 5
PROBE_EVERY: Final = 30.0


def notice(text: str) -> None:
    """Tell the operator through the standard `relay` logger, which goes to stderr unless it is configured."""
    logging.getLogger("relay").warning(text)


class Subscription:
    """One sink's place on the bus. It isolates the sink: whatever it raises, the others hear the record all the same.

    A sink that keeps failing is set aside and tried again every PROBE_EVERY seconds.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        after: int,
        leave: "Callable[[Subscription], None]",
        clock: Clock,
        notify: Notify,
    ) -> None:
        self.name = name_of(sink)
        self.failures = 0
        self.missed = 0
        self._sink = sink
        self._cursor = after
        self._leave = leave
        self._clock = clock
        self._notify = notify
        self._closed = False
        self._streak = 0
        self._probe_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cursor(self) -> int:
        """The offset of the last record that was delivered, or passed over."""
        return self._cursor

    @property
    def quarantined(self) -> bool:
        """Whether the sink has failed so often in a row that it is only tried now and then."""
        return self._streak >= QUARANTINE_AFTER

    def close(self) -> None:
        """Hear nothing more, from this moment on, also in the middle of a record. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._leave(self)

    def deliver(self, record: Record) -> BaseException | None:
        """Let the sink hear *record*, once; return what it raised where that must not be held back."""
        if self._closed or record.position.offset <= self._cursor:
            return None
        self._cursor = record.position.offset
        if self.quarantined and self._clock.monotonic() < self._probe_at:
            self.missed += 1
            return None
        try:
            self._sink(record)
        except (Exception, CancelledError) as error:
            # Nobody can cancel a plain call, so a CancelledError out of one is the sink's own failure.
            self._failed(record, error)
        except BaseException as interruption:
            return interruption
        else:
            if self._streak:
                self._recovered()
        return None

    def _failed(self, record: Record, error: BaseException) -> None:
        self.failures += 1
        self.missed += 1
        self._streak += 1
        self._probe_at = self._clock.monotonic() + PROBE_EVERY
        if self._streak == 1:
            self._notify(
                f"sink {self.name} failed on {record.job} seq {record.seq}: {describe(error)};"
                " it misses this record, the others do not"
            )
        elif self._streak == QUARANTINE_AFTER:
            self._notify(
                f"sink {self.name} failed {QUARANTINE_AFTER} times in a row and is set aside;"
                f" it is tried again every {PROBE_EVERY:.0f} s"
            )

    def _recovered(self) -> None:
        self._streak = 0
        self._notify(f"sink {self.name} works again; it has missed {self.missed} records so far")


class Topic:
    """The subscriptions of one job, or of all jobs, however many they are."""

    __slots__ = ("subscriptions",)

    def __init__(self) -> None:
        self.subscriptions: dict[Subscription, None] = {}

    def tell(self, record: Record) -> BaseException | None:
        """Let each hear *record*; return what one of them raised where that must not be held back."""
        interruption = None
        for subscription in tuple(self.subscriptions):
            raised = subscription.deliver(record)
            interruption = interruption or raised
        return interruption


def name_of(sink: object) -> str:
    """What a sink is called in a notice."""
    return getattr(sink, "__qualname__", None) or type(sink).__qualname__


def describe(error: BaseException) -> str:
    """An error in one line."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return words.splitlines()[0]
