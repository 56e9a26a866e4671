"""A sink that a relay has, and what became of its records."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from msgspec import Struct

from relay.bus.record_filter import RecordFilter
from relay.bus.subscription import Subscription
from relay.errors import UsageError
from relay.events import LEVELS, Level
from relay.queue import Counts
from relay.queue.counts import Breaker

__all__ = ["AttachedSink", "Delivery", "SinkStatus", "SubscribedDelivery"]

LONGEST_RAISE: Final = 24 * 3_600.0


class SinkStatus(Struct, frozen=True, kw_only=True):
    """What a sink is doing. The numbers are records since the start; see `Counts`.

    *state*: `closed` while it works, `open` while it is quarantined, `half-open` while it is probed. *cursor*: the
    offset of the last record that it was given. *lag*: how many records of the journal are ahead of it, or wait in its
    queue. *slowest*: the most seconds for which it has held the event loop.
    """

    name: str
    level: Level
    state: Breaker
    cursor: int
    lag: int
    delivered: int
    coalesced: int
    dropped: int
    failed: int
    waiting: int
    slowest: float
    durable: bool = False


class Delivery(Protocol):
    """The way in which a sink gets its records: from the bus as they are published, or from the journal."""

    durable: bool

    @property
    def name(self) -> str: ...
    @property
    def cursor(self) -> int: ...
    @property
    def state(self) -> Breaker: ...
    @property
    def slowest(self) -> float: ...
    def counts(self) -> Counts: ...
    def close(self) -> None:
        """Give the sink no further record."""

    async def end(self, *, drain: bool) -> None:
        """Return once no record is on its way; with *drain*, give it those that are committed before."""


class SubscribedDelivery:
    """The records come from the bus, as they are published."""

    durable = False

    def __init__(self, subscription: Subscription, sink: object) -> None:
        self._subscription = subscription
        self._sink = sink

    @property
    def name(self) -> str:
        return self._subscription.name

    @property
    def cursor(self) -> int:
        return self._subscription.cursor

    @property
    def slowest(self) -> float:
        return self._subscription.slowest

    @property
    def state(self) -> Breaker:
        own: object = getattr(self._sink, "breaker", None)
        if self._subscription.quarantined:
            return "half-open" if self._subscription.probe_due else "open"
        return own if own in ("open", "half-open") else "closed"

    def counts(self) -> Counts:
        with suppress(Exception):  # of somebody else's code; its figures are not worth more than all the others
            own: Any = getattr(self._sink, "counts", None)
            if callable(own) and isinstance(counted := own(), Counts):
                return counted
        subscription = self._subscription
        return Counts(
            delivered=subscription.delivered,
            dropped=subscription.lost - subscription.failures,
            failed=subscription.failures,
        )

    def close(self) -> None:
        self._subscription.close()

    async def end(self, *, drain: bool) -> None:  # noqa: ARG002 - nothing waits here
        self.close()


class AttachedSink:
    """One sink of a relay; `Relay.add_sink` returns it."""

    def __init__(
        self,
        delivery: Delivery,
        level: RecordFilter,
        *,
        head: Callable[[], int],
        sink: Any,
        remove: "Callable[[AttachedSink], Awaitable[None]]",
    ) -> None:
        self.sink: Any = sink
        """The sink as it was given."""
        self._delivery = delivery
        self._filter = level
        self._head = head
        self._remove = remove

    @property
    def name(self) -> str:
        """The name that notices, figures and routes call it; no other sink of the relay has it."""
        return self._delivery.name

    def status(self) -> SinkStatus:
        """Its state at present, and the number of its records by what became of them."""
        delivery, counts = self._delivery, self._delivery.counts()
        return SinkStatus(
            name=self.name,
            level=self._filter.level,
            state=delivery.state,
            cursor=delivery.cursor,
            lag=self._head() - delivery.cursor if delivery.durable else counts.waiting,
            delivered=counts.delivered,
            coalesced=counts.coalesced,
            dropped=counts.dropped,
            failed=counts.failed,
            waiting=counts.waiting,
            slowest=delivery.slowest,
            durable=delivery.durable,
        )

    def set_level(self, level: Level, seconds: float) -> None:
        """Receive the records of *level* and above for *seconds*, and as configured after that.

        Raises UsageError for what is no level, and for a time that is not above 0 and at most a day.
        """
        if level not in LEVELS:
            raise UsageError(f"a sink has one of the levels {', '.join(LEVELS)}, not {level!r}")
        if not 0 < seconds <= LONGEST_RAISE:
            raise UsageError("a level is set for more than 0 seconds, and for a day at most")
        self._filter.set_level(level, seconds)

    async def remove(self) -> None:
        """Give it no further record, from this call on, and leave it if it was entered. Idempotent."""
        self._delivery.close()
        await self._remove(self)

    def close(self) -> None:
        """Give it no further record, from this call on; it is left with the relay."""
        self._delivery.close()

    async def end(self, *, drain: bool) -> None:
        """Give it no further record once this returns; with *drain*, those that are committed before."""
        await self._delivery.end(drain=drain)
