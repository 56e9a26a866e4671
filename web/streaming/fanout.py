"""Streams that are up to date are written to together: the records of one turn of the loop are one write to each.

Measured per delivery, beyond the cost of the kernel's send: a queue and a task for each stream 12 us, a task that is
woken 10 us, a write to the transport from a plain loop 1.5 to 3 us. A stream that keeps up therefore has no running
task; a stream that falls behind leaves its group and catches up from the journal in its own time.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, TypeAlias

from relay import Bus, Position, Record
from relay.bus.histogram import Histogram
from relay.events import LEVELS, LEVELS_FROM, Level
from relay.notices import apart, describe, notice
from sinks.sse import Pages
from web.streaming.connections import CHUNK
from web.streaming.members import Member, Members
from web.streaming.selection import Selection, SelectionKey
from web.streaming.wire import Wire

__all__ = ["FanOut", "Group"]

GroupKey: TypeAlias = tuple[str, Level, bool, SelectionKey]

FLUSH_BYTES: Final = 48 * 1024
"""How much may wait for the end of the loop's turn: a long burst must not fill the memory of every slow stream."""

FEW: Final = 16
"""Writes that take less time than a commit is deferred by, and that a call of the loop would make dearer."""

WIRES_KEPT: Final = 64
"""How many wires have cached pages: a job that chat clients follow has a wire of its own."""

DELAY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds: a commit is deferred by up to 5 ms, and answers about single tasks are published together, within 20."""


class FanOut:
    """The groups of streams that receive the same bytes, and one heartbeat timer for all of them.

    *now* is the monotonic clock of the relay.
    """

    def __init__(self, bus: Bus, heartbeat: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.delays: Histogram = Histogram(DELAY_BOUNDS)
        """Seconds from an upstream's answer to the write of the first record that follows from it, of each write."""
        self.now = now
        self._bus = bus
        self._heartbeat = heartbeat
        self._groups: dict[GroupKey, Group] = {}
        self._leave = ExitStack()
        self._dirty: list[Group] = []
        self._flushing: asyncio.Handle | None = None
        self._interval = heartbeat
        self._timer: asyncio.TimerHandle | None = None
        self._latest: Record | None = None
        self._encodings: dict[str, bytes] = {}
        self._pages: dict[str, Pages] = {}
        self._failing: set[str] = set()

    def join_group(self, member: Member, wire: Wire, level: Level, selection: Selection, *, chunked: bool) -> "Group":
        """Write every new record to *member*, until it leaves the group that this returns.

        Call it without awaiting anything after the journal was read to its end: then no record is missed or repeated.
        """
        key = (wire.name, level, chunked, selection.key)
        group = self._groups.get(key)
        if group is None:
            if not self._groups:
                self._leave.callback(self._bus.when_begun_anew(self.begin_anew))
                self._leave.callback(self._bus.when_sent(self._flush_when_all_is_sent))
            group = self._groups[key] = Group(self, self._bus, key, wire, selection)
        group.flush()
        group.join(member)
        if self._timer is None or wire.sign_after / 2 < self._interval:
            self._schedule_beat()
        return group

    @property
    def interval(self) -> float:
        """The seconds between two heartbeats at present."""
        return self._interval

    def remove(self, group: "Group") -> None:
        """Forget *group*, which has no member any more. Idempotent."""
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
            if not self._groups:
                self._leave.close()

    def begin_anew(self) -> None:
        """The journal has begun anew: each stream leaves its group, and reports alone what it cannot be sent."""
        for group in list(self._groups.values()):
            apart(group.dissolve, "a group of streams")

    def flush_soon(self, group: "Group") -> None:
        """Flush *group* behind all that is sent with the record that it just got."""
        self._dirty.append(group)

    def _flush_when_all_is_sent(self, deferred: bool) -> None:
        """At once for few readers if no other commit follows; otherwise at the end of this turn of the loop.

        To write to many readers may take longer than the next commit is deferred: each record of a burst would be
        written alone.
        """
        if not self._dirty:
            return
        few = deferred and len(self._dirty) <= FEW
        if few and sum([len(group.members) for group in self._dirty]) <= FEW:
            self._flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        dirty, self._dirty = self._dirty, []
        for group in dirty:
            if group.dirty:
                apart(group.flush, "a group of streams")

    def encoded(self, record: Record, wire: Wire) -> bytes:
        """*record* on *wire*, encoded once for all groups."""
        if self._latest is not record:
            self._latest = record
            self._encodings.clear()
        data = self._encodings.get(wire.name)
        if data is None:
            data = self._encodings[wire.name] = self._encode(wire, record)
        return data

    def pages(self, wire: Wire) -> Pages:
        """The encoder of pages on *wire*, for streams that are behind. The wires used last are kept, WIRES_KEPT."""
        pages = self._pages.pop(wire.name, None) or Pages(partial(self._encode, wire))
        if len(self._pages) >= WIRES_KEPT:
            del self._pages[next(iter(self._pages))]
        self._pages[wire.name] = pages
        return pages

    def _encode(self, wire: Wire, record: Record) -> bytes:
        """*record* on *wire*. A record that cannot be encoded is replaced by `skipped`, and the streams go on."""
        try:
            data = wire.record(record)
        except Exception as error:
            if wire.name not in self._failing:
                self._failing = {*list(self._failing)[: WIRES_KEPT - 1], wire.name}
                what = f"the {record.event.type!r} record of {record.job} (seq {record.seq})"
                notice(f"{what} cannot be sent as {wire.name}: {describe(error)}; streams say that it is missing")
            return wire.notice("skipped", {"missed": 1}, record.position)
        self._failing.discard(wire.name)
        return data

    def _beat(self) -> None:
        self._timer = None
        for group in list(self._groups.values()):
            apart(group.beat, "a heartbeat")
        if self._groups:
            self._schedule_beat()

    def _schedule_beat(self) -> None:
        """Beat once a heartbeat, or twice in the time within which readers of some group need a sign of life."""
        if self._timer is not None:
            self._timer.cancel()
        self._interval = min([self._heartbeat, *(group.sign_after / 2 for group in self._groups.values())])
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)


class Group:
    """Streams of the same jobs at the same level on the same wire: one sink on the bus for all of them."""

    __slots__ = (
        "_announced",
        "_answered",
        "_bus",
        "_chunked",
        "_fanout",
        "_filtered",
        "_levels",
        "_news_at",
        "_passed",
        "_pending",
        "_pending_bytes",
        "_reached",
        "_running",
        "_spoke",
        "_subscription",
        "_wire",
        "dirty",
        "key",
        "members",
        "position",
        "selection",
        "sign_after",
    )

    def __init__(self, fanout: FanOut, bus: Bus, key: GroupKey, wire: Wire, selection: Selection) -> None:
        self.members: Members = Members()
        self.position: Position = Position(bus.journal.epoch, bus.journal.head)
        """The position up to which every record has been written to every member."""
        self.selection: Selection = selection
        self.key: GroupKey = key
        self.sign_after: float = wire.sign_after
        self._fanout = fanout
        self._bus = bus
        self._wire = wire
        self._levels = LEVELS_FROM[key[1]]
        self._chunked = key[2]
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._answered: float | None = None
        self._reached = self.position
        self._filtered = key[1] != LEVELS[0] or selection.owner is not None
        self._announced = self.position.offset
        self._running = {job.id for job in selection.jobs or () if not job.ended}
        self._spoke = False
        self._news_at = asyncio.get_running_loop().time()
        self._passed: Record | None = None
        self.dirty: bool = False
        """Whether a record came since the last flush."""
        self._subscription = bus.subscribe(self, selection.jobs, owner=selection.owner)

    def __call__(self, record: Record) -> None:
        self._reached, event = record.position, record.event
        if event.level in self._levels or event.terminal:
            self._announced = self._reached.offset
            self._passed = None
            data = self._fanout.encoded(record, self._wire)
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._answered is None:
                self._answered = self._bus.answered
        else:
            self._passed = record
        if event.terminal:
            self._running.discard(record.job)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif not self.dirty:
            self.dirty = True
            self._fanout.flush_soon(self)

    def join(self, member: Member) -> None:
        """Write to *member*, which has every record up to *position*, whatever comes next."""
        self.members.add(member)
        if self._filtered:
            self._announced = 0  # the new member may not know yet how far that is

    def leave(self, member: Member) -> None:
        """Write nothing more to *member*, and set its *reached*. Idempotent."""
        if self.members.remove(member):
            member.reached = self.position
        if not self.members:
            self._fanout.remove(self)
            self._subscription.close()
            self.dirty = False

    def dissolve(self) -> None:
        """Let every member leave with all records that were sent, and continue alone."""
        self.flush()
        for member in tuple(self.members):
            self.leave(member)
            apart(member.wake, "a stream")

    def flush(self) -> None:
        """Write the records since the last flush to every member."""
        self.dirty = False
        self.position = self._reached
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending, self._pending_bytes = [], 0
            self._spoke = True
            if self.sign_after < math.inf:
                self._news_at = asyncio.get_running_loop().time()
            self._write(data)
            if self._answered is not None:
                self._fanout.delays.observe(self._fanout.now() - self._answered)
                self._answered = None
        if self.selection.jobs is not None and not self._running:
            for member in tuple(self.members):
                apart(member.finish, "the end of a stream")

    def beat(self) -> None:
        """Write a heartbeat, unless something was written since the last one.

        Streams of a level, and of an owner, also receive the position up to which they are up to date, although no
        record was for them: a client that reconnects resumes from there. A client for which comments are no news
        receives a sign of life before its patience ends.
        """
        if self.selection.owner is not None:
            # Nothing is under way between two turns of the loop: they have all that is committed and is for them.
            self.flush()
            self._reached = self.position = Position(self.position.epoch, self._bus.journal.head)
        if self._sign_is_due():
            self.flush()
            self._write(self._wire.sign(self._passed, self.position))
            self._passed, self._announced = None, self.position.offset
        elif not self._spoke:
            self._write(self._wire.heartbeat(self.position, moved=self._announced < self.position.offset))
            self._announced = max(self._announced, self.position.offset)
        self._spoke = False

    def _sign_is_due(self) -> bool:
        """Whether the readers would be without news for too long at the next beat. News then counts as sent."""
        now = asyncio.get_running_loop().time()
        if now + self._fanout.interval - self._news_at <= self.sign_after:
            return False
        self._news_at = now
        return True

    def _write(self, data: bytes) -> None:
        if self._chunked:
            data = CHUNK % (len(data), data)
        for member in self.members.write(data):
            member.reached = self.position
            apart(member.wake, "a stream")
