"""One sink's place on the bus, where it is kept apart from all others."""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

from relay.bus.callables import never_awaited, refuse_no_sink
from relay.bus.hold_watch import HELD_TOO_LONG, HoldWatch
from relay.clock import Clock
from relay.events import Record
from relay.notices import INTERRUPTIONS, Notify, describe, notice

__all__ = [
    "PROBE_EVERY",
    "QUARANTINE_AFTER",
    "Notify",
    "Sink",
    "Subscription",
    "describe",
    "name_of",
    "notice",
]

Sink: TypeAlias = Callable[[Record], object]
"""Receives every record, in order. It must not block and may not publish; it may raise, and no other sink notices."""

QUARANTINE_AFTER: Final = 5
PROBE_EVERY: Final = 30.0


class Subscription:
    """One sink's place on the bus. It isolates the sink: if it raises, the others receive the record all the same.

    Only Ctrl-C and an exit pass through it. A sink that keeps failing, or keeps holding the event loop where a *watch*
    times it, is set aside and tried again every PROBE_EVERY seconds. Raises UsageError for a sink that cannot be
    called, or that would have to be awaited.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        after: int,
        leave: "Callable[[Subscription], None]",
        clock: Clock,
        notify: Notify,
        name: str | None = None,
        wanted: Callable[[Record], bool] | None = None,
        watch: HoldWatch | None = None,
    ) -> None:
        refuse_no_sink(sink, name_of(sink))
        self.name: str = name or name_of(sink)
        self.delivered: int = 0
        self.failures: int = 0
        self.missed: int = 0
        self.slowest: float = 0.0
        """The most seconds that the sink has held the event loop with one record; measured where it is watched."""
        self._wanted = wanted
        self._watch = watch
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

    @property
    def probe_due(self) -> bool:
        """Whether the next record is delivered to the sink although it is quarantined."""
        return self._clock.monotonic() >= self._probe_at

    @property
    def lost(self) -> int:
        """How many records the sink did not get, or got and could not put out, as far as it counts these: `missed`."""
        try:
            own = getattr(self._sink, "missed", 0)
        except Exception:
            own = 0  # a property of somebody else's; its figure is not worth more than all the others
        return self.missed + (own if isinstance(own, int) else 0)

    def close(self) -> None:
        """Receive nothing more, from this moment on, also in the middle of a record. Idempotent."""
        if not self._closed:
            self._closed = True
            self._leave(self)

    def deliver(self, record: Record) -> BaseException | None:
        """Send *record* to the sink, once; return an exception of it that must not be held back."""
        offset = record.position.offset
        if offset <= self._cursor or self._closed:
            return None
        self._cursor, held = offset, 0.0
        try:
            if self._wanted is not None and not self._wanted(record):
                return None
            if self._streak >= QUARANTINE_AFTER and not self.probe_due:
                self.missed += 1
                return None
            if self._watch is None:
                result = self._sink(record)
            else:
                began = self._watch.begin(self.name)
                try:
                    result = self._sink(record)
                finally:
                    held = self._watch.end(self.name, began)
            if result is not None:
                never_awaited(result, self.name)
        except INTERRUPTIONS as interruption:
            return interruption
        except BaseException as error:
            # A panic in an extension is no Exception; and nobody can cancel a plain call, so a CancelledError out of
            # one is the sink's own failure.
            self._failed(record, error)
        else:
            self.delivered += 1
            if held > self.slowest or held > HELD_TOO_LONG or self._streak:
                self._took(held)
        return None

    def _took(self, seconds: float) -> None:
        """A call that has succeeded: it ends a row of failures, unless it held the event loop for too long."""
        if seconds > self.slowest:
            self.slowest = seconds
        if seconds <= HELD_TOO_LONG:
            if self._streak:
                self._recovered()
            return
        self._fails_once_more()
        if self._streak == QUARANTINE_AFTER:
            self._notify(
                f"sink {self.name} has held the event loop {QUARANTINE_AFTER} times in a row and is set aside;"
                f" it is tried again every {PROBE_EVERY:.0f} s"
            )

    def _failed(self, record: Record, error: BaseException) -> None:
        self.failures += 1
        self.missed += 1
        self._fails_once_more()
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

    def _fails_once_more(self) -> None:
        self._streak += 1
        self._probe_at = self._clock.monotonic() + PROBE_EVERY

    def _recovered(self) -> None:
        self._streak = 0
        self._notify(f"sink {self.name} works again; it has missed {self.missed} records so far")


def name_of(sink: object) -> str:
    """What a sink is called in a notice. A partial has the name of what it calls."""
    while isinstance(sink, partial):
        sink = cast("partial[object]", sink).func
    name = getattr(sink, "__qualname__", None)
    return name if isinstance(name, str) and name else type(sink).__qualname__
