"""Readers that are up to date are written to together: what one turn of the loop brings leaves in one write to each.

Measured per delivery, over what the kernel's send costs: a queue and a task for each reader 12 us, a task that is woken
10 us, a write to the transport from a plain loop 1.5 to 3 us. So who keeps up has no task at work; who does not leaves
this room, and catches up from the journal in its own time.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from relay.bus import Bus
from relay.events import Level, Record, at_least
from relay.jobs import Job
from relay.subscription import Subscription
from web.wire import Wire

__all__ = ["FanOut", "Seat"]

GroupKey: TypeAlias = tuple[str, Level, tuple[str, ...] | None]

FLUSH_BYTES: Final = 64 * 1024
"""How much may wait for the end of the loop's turn: a long burst must not fill the memory of every slow reader."""

_CHUNK: Final = b"%x\r\n%b\r\n"
"""[spec] RFC 9112, 7.1: a chunk is its size in hexadecimal, and its data, each ended by CRLF."""


class Seat:
    """One reader that is up to date: its connection, and how to call it away.

    *slow* is set where the kernel did not take all that was written; nothing more is written from then on. *reached* is
    the offset of the last record that was.
    """

    __slots__ = ("call_away", "chunked", "reached", "slow", "transport")

    def __init__(self, transport: asyncio.WriteTransport, *, chunked: bool, call_away: Callable[[], None]) -> None:
        self.transport = transport
        self.chunked = chunked
        self.call_away = call_away
        self.reached = 0
        self.slow = False


class FanOut:
    """Groups of readers that hear the same, and one heartbeat for all."""

    def __init__(self, bus: Bus, heartbeat: float) -> None:
        self._bus = bus
        self._heartbeat = heartbeat
        self._groups: dict[GroupKey, _Group] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._latest: dict[str, tuple[Record, bytes]] = {}

    @contextmanager
    def seated(self, seat: Seat, wire: Wire, level: Level, jobs: Sequence[Job] | None) -> Generator[None]:
        """While this is entered, *seat* is written whatever is new. Afterwards *seat.reached* says up to where.

        Enter it without awaiting anything after the journal was read to its end: then nothing is missed or repeated.
        """
        key = (wire.content_type, level, None if jobs is None else tuple(job.id for job in jobs))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self, wire, level, jobs)
        group.flush()
        group.seats[seat] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat, self._beat)
        try:
            yield
        finally:
            del group.seats[seat]
            if not seat.slow:
                seat.reached = group.cursor
            if not group.seats:
                del self._groups[key]
                group.close()

    def encoded(self, record: Record, wire: Wire) -> bytes:
        """*record* on this wire: made once, however many groups hear it."""
        known = self._latest.get(wire.content_type)
        if known is not None and known[0] is record:
            return known[1]
        data = wire.record(record)
        self._latest[wire.content_type] = (record, data)
        return data

    def listen(self, group: "_Group", jobs: Sequence[Job] | None) -> Subscription:
        return self._bus.subscribe(group, jobs)

    @property
    def head(self) -> int:
        return self._bus.journal.head

    def _beat(self) -> None:
        self._timer = None
        for group in list(self._groups.values()):
            group.beat()
        if self._groups:
            self._timer = asyncio.get_running_loop().call_later(self._heartbeat, self._beat)


class _Group:
    """Readers of the same jobs at the same level on the same wire: one sink on the bus for all of them."""

    def __init__(self, room: FanOut, wire: Wire, level: Level, jobs: Sequence[Job] | None) -> None:
        self.seats: dict[Seat, None] = {}
        self.cursor = room.head
        self._room = room
        self._wire = wire
        self._level: Level = level
        self._jobs = jobs
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._reached = self.cursor
        self._over = False
        self._spoke = False
        self._flushing: asyncio.Handle | None = None
        self._subscription = room.listen(self, jobs)

    def __call__(self, record: Record) -> None:
        self._reached = record.position.offset
        if record.terminal or at_least(record.event.level, self._level):
            data = self._room.encoded(record, self._wire)
            self._pending.append(data)
            self._pending_bytes += len(data)
        if record.terminal and self._jobs is not None:
            self._over = all(job.ended for job in self._jobs)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self.flush)

    def close(self) -> None:
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
        if self._over:
            for seat in self.seats:
                seat.call_away()

    def beat(self) -> None:
        """A sign of life, unless there was one since the last time."""
        if not self._spoke:
            self._write(self._wire.heartbeat)
        self._spoke = False

    def _write(self, data: bytes) -> None:
        chunk = _CHUNK % (len(data), data)
        for seat in self.seats:
            transport = seat.transport
            if seat.slow:
                continue
            if not transport.is_closing():
                transport.write(chunk if seat.chunked else data)
                if not transport.get_write_buffer_size():
                    continue
            seat.slow, seat.reached = True, self.cursor
            seat.call_away()
