"""A group of streams: readers of the same jobs, who receive the same bytes in one write to each."""

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from relay import Bus, Position, Record
from relay.bus.histogram import Histogram
from relay.events import LEVELS, LEVELS_FROM, Level
from relay.notices import apart
from web.streaming.connections import CHUNK
from web.streaming.members import Member, Members
from web.streaming.selection import Selection, SelectionKey
from web.streaming.wire import Wire

__all__ = ["Group", "GroupKey", "Groups"]

GroupKey: TypeAlias = tuple[str, Level, bool, SelectionKey]

FLUSH_BYTES: Final = 48 * 1024
"""How much may wait for the end of the loop's turn: a long burst must not fill the memory of every slow stream."""


class Groups(Protocol):
    """All groups, as each of them needs them: `web.streaming.fanout.FanOut`.

    *delays* counts the seconds from an upstream's answer to the write of the first record that follows from it, and
    *now* is their clock.
    """

    delays: Histogram
    now: Callable[[], float]

    @property
    def interval(self) -> float:
        """The seconds between two heartbeats at present."""
        ...

    def encoded(self, record: Record, wire: Wire, /) -> bytes:
        """*record* on *wire*, encoded once for all groups."""
        ...

    def flush_soon(self, group: "Group", /) -> None:
        """Flush *group* behind all that is sent with the record that it just got."""

    def remove(self, group: "Group", /) -> None:
        """Forget *group*, which has no member any more. Idempotent."""


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

    def __init__(self, fanout: Groups, bus: Bus, key: GroupKey, wire: Wire, selection: Selection) -> None:
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
