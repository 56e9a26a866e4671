"""Streams that are up to date are written to together: the records of one turn of the loop are one write to each.

Measured per delivery, beyond the cost of the kernel's send: a queue and a task for each stream 12 us, a task that is
woken 10 us, a write to the transport from a plain loop 1.5 to 3 us. A stream that keeps up therefore has no running
task; a stream that falls behind leaves its group and catches up from the journal in its own time.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from relay import Bus, Record
from relay.bus.histogram import Histogram
from relay.events import Level
from relay.notices import apart, describe, notice
from sinks.sse import Pages
from web.streaming.group import Group, GroupKey
from web.streaming.members import Member
from web.streaming.selection import Selection
from web.streaming.wire import Wire

__all__ = ["FanOut"]

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

    def join_group(self, member: Member, wire: Wire, level: Level, selection: Selection, *, chunked: bool) -> Group:
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

    def remove(self, group: Group) -> None:
        """Forget *group*, which has no member any more. Idempotent."""
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
            if not self._groups:
                self._leave.close()

    def begin_anew(self) -> None:
        """The journal has begun anew: each stream leaves its group, and reports alone what it cannot be sent."""
        for group in list(self._groups.values()):
            apart(group.dissolve, "a group of streams")

    def flush_soon(self, group: Group) -> None:
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
