"""Readers that are up to date are written to together: what one turn of the loop brings leaves in one write to each.

Measured per delivery, over what the kernel's send costs: a queue and a task for each reader 12 us, a task that is woken
10 us, a write to the transport from a plain loop 1.5 to 3 us. So who keeps up has no task at work; who does not leaves
this room, and catches up from the journal in its own time.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from relay.bus import Bus
from relay.events import Level, Position, Record, at_least
from relay.jobs import Job
from relay.subscription import Subscription
from sinks.sse import Pages
from web.links import CHUNK, Writer
from web.wire import Wire

__all__ = ["FanOut", "Group", "Seat"]

GroupKey: TypeAlias = tuple[str, Level, bool, tuple[str, ...] | None]

FLUSH_BYTES: Final = 64 * 1024
"""How much may wait for the end of the loop's turn: a long burst must not fill the memory of every slow reader."""


class Seat(Protocol):
    """One reader that is up to date.

    *slow* is set where the kernel did not take all that was written; nothing more is written from then on. *reached* is
    the offset of the last record that was.
    """

    writer: Writer
    slow: bool
    reached: int

    def wake(self) -> None:
        """Have it leave its seat: there is something to do for it alone."""
        ...

    def finish(self) -> None:
        """Have it leave its seat: there is nothing more to do for it."""
        ...


class FanOut:
    """Groups of readers that hear the same, and one heartbeat for all."""

    def __init__(self, bus: Bus, heartbeat: float) -> None:
        self._bus = bus
        self._heartbeat = heartbeat
        self._groups: dict[GroupKey, Group] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._latest: dict[str, tuple[Record, bytes]] = {}
        self._pages: dict[str, Pages] = {}

    def seat(self, seat: Seat, wire: Wire, level: Level, jobs: Sequence[Job] | None, *, chunked: bool) -> "Group":
        """Write *seat* whatever is new, until it leaves the group that this returns.

        Call it without awaiting anything after the journal was read to its end: then nothing is missed or repeated.
        """
        key = (wire.content_type, level, chunked, None if jobs is None else tuple([job.id for job in jobs]))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(self, key, wire, jobs)
        group.flush()
        group.seats[seat] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat, self._beat)
        return group

    def close(self, group: "Group") -> None:
        """Nobody sits in *group* any more. Twice does nothing."""
        if self._groups.get(group.key) is group:
            del self._groups[group.key]

    def encoded(self, record: Record, wire: Wire) -> bytes:
        """*record* on this wire: made once, however many groups hear it."""
        known = self._latest.get(wire.content_type)
        if known is not None and known[0] is record:
            return known[1]
        data = wire.record(record)
        self._latest[wire.content_type] = (record, data)
        return data

    def pages(self, wire: Wire) -> Pages:
        """What puts pages on this wire together for who is behind."""
        return self._pages.setdefault(wire.content_type, Pages(wire.record))

    def listen(self, group: "Group", jobs: Sequence[Job] | None) -> Subscription:
        return self._bus.subscribe(group, jobs)

    def as_told(self, job: Job) -> Job:
        return self._bus.as_told(job)

    @property
    def head(self) -> int:
        return self._bus.journal.head

    @property
    def epoch(self) -> str:
        return self._bus.journal.epoch

    def _beat(self) -> None:
        self._timer = None
        for group in list(self._groups.values()):
            group.beat()
        if self._groups:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat, self._beat)


class Group:
    """Readers of the same jobs at the same level on the same wire: one sink on the bus for all of them."""

    __slots__ = (
        "_chunked",
        "_flushing",
        "_level",
        "_pending",
        "_pending_bytes",
        "_reached",
        "_room",
        "_running",
        "_spoke",
        "_subscription",
        "_wire",
        "cursor",
        "jobs",
        "key",
        "seats",
    )

    def __init__(self, room: FanOut, key: GroupKey, wire: Wire, jobs: Sequence[Job] | None) -> None:
        self.seats: dict[Seat, None] = {}
        self.cursor = room.head
        self.jobs = jobs
        self._room = room
        self.key = key
        self._wire = wire
        self._level: Level = key[1]
        self._chunked = key[2]
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._reached = self.cursor
        # As told: a batch changes the state of all its jobs before the first record of it is heard.
        self._running = {job.id for job in jobs or () if not room.as_told(job).ended}
        self._spoke = False
        self._flushing: asyncio.Handle | None = None
        self._subscription = room.listen(self, jobs)

    def __call__(self, record: Record) -> None:
        self._reached = record.position.offset
        if record.terminal or at_least(record.event.level, self._level):
            data = self._room.encoded(record, self._wire)
            self._pending.append(data)
            self._pending_bytes += len(data)
        if record.terminal:
            self._running.discard(record.job)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self.flush)

    @property
    def position(self) -> Position:
        """Up to where everybody here has been written everything."""
        return Position(self._room.epoch, self.cursor)

    def leave(self, seat: Seat) -> None:
        """Write *seat* nothing more; *seat.reached* says up to where it has been."""
        if seat in self.seats:
            del self.seats[seat]
            seat.reached = self.cursor
        if not self.seats:
            self._room.close(self)
            self._subscription.close()
            if self._flushing is not None:
                self._flushing.cancel()

    def flush(self) -> None:
        """Write what has come up since the last time to every seat."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self.cursor = self._reached
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending, self._pending_bytes = [], 0
            self._spoke = True
            self._write(data)
        if self.jobs is not None and not self._running:
            for seat in tuple(self.seats):
                seat.finish()

    def beat(self) -> None:
        """A sign of life, unless there was one since the last time."""
        if not self._spoke:
            self._write(self._wire.heartbeat)
        self._spoke = False

    def _write(self, data: bytes) -> None:
        if self._chunked:
            data = CHUNK % (len(data), data)
        late: list[Seat] = []
        for seat in self.seats:
            seat.writer.write(data)
            if seat.slow:
                late.append(seat)
        for seat in late:
            del self.seats[seat]
            seat.reached = self.cursor
            seat.wake()
