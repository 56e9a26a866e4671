"""Records that wait, bounded, with a named policy for the bound. No I/O, no clock, no task."""

from collections import deque
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from relay.errors import UsageError
from relay.events import Record
from relay.queue.thinning import thinned

__all__ = ["BYTES_LIMIT", "OnFull", "Portion", "RecordBuffer"]

OnFull: TypeAlias = Literal["drop-oldest", "drop-newest", "coalesce", "close"]
"""What happens to a record for which there is no room.

`drop-oldest`: the oldest one goes, which keeps the output close to now. `drop-newest`: the new one goes, which keeps
what was accepted. `coalesce`: progress that later progress replaces goes, and the oldest where there is none. `close`:
nothing more is accepted, so that what the output has is whole up to a point.
"""

BYTES_LIMIT: Final = 16 * 1024 * 1024
"""Records wait up to this size in all, whatever their number: one may have 256 KiB."""

THIN_AGAIN: Final = 8
"""After thinning that freed less, an eighth of the capacity is dropped first: thinning looks at all that waits."""


class Portion(NamedTuple):
    """Records that are next, in order, and the number of those that were lost right before the first of them."""

    lost: int
    records: list[Record]


class _Waiting:
    __slots__ = ("lost", "record")

    def __init__(self, record: Record, lost: int) -> None:
        self.record = record
        self.lost = lost


class RecordBuffer:
    """At most *capacity* records and 16 MiB, oldest first. Raises UsageError for a capacity below 1 or another policy.

    The place of a loss is kept: `take` reports it before the record that follows it.
    """

    def __init__(self, capacity: int, on_full: OnFull) -> None:
        if capacity < 1:
            raise UsageError(f"a queue has room for at least one record, not {capacity}")
        if on_full not in get_args(OnFull):
            raise UsageError(f"on_full is one of {', '.join(get_args(OnFull))}, not {on_full!r}")
        self.coalesced: int = 0
        self.dropped: int = 0
        self.closed: bool = False
        """Whether nothing more is accepted; so it is once it was full with the policy `close`, or `close` was called"""
        self._capacity = capacity
        self._on_full: OnFull = on_full
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._lost_behind = 0
        self._until_thinned = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def lost_behind(self) -> int:
        """The number of records that were lost after the newest one that waits."""
        return self._lost_behind

    def put(self, record: Record) -> None:
        """Accept *record*, or do with it as the policy says."""
        if self.closed:
            return self._drop_newest()
        size = len(record.json)
        while self._waiting and (len(self._waiting) >= self._capacity or self._bytes + size > BYTES_LIMIT):
            if self._on_full == "drop-newest":
                return self._drop_newest()
            if self._on_full == "close":
                self.closed = True
                return self._drop_newest()
            if self._on_full == "drop-oldest" or not self._thin():
                self._drop_oldest()
        self._waiting.append(_Waiting(record, self._lost_behind))
        self._lost_behind = 0
        self._bytes += size

    def take(self, most: int) -> Portion:
        """Up to *most* of the oldest records, without a loss among them; none, and no loss, where none waits."""
        if not self._waiting:
            return Portion(0, [])
        lost = self._waiting[0].lost
        records = [self._pop()]
        while len(records) < most and self._waiting and not self._waiting[0].lost:
            records.append(self._pop())
        return Portion(lost, records)

    def take_lost_behind(self) -> int:
        """The number of records lost after the newest one; they are reported with this call, and not again."""
        lost, self._lost_behind = self._lost_behind, 0
        return lost

    def close(self) -> None:
        """Accept nothing more."""
        self.closed = True

    def _pop(self) -> Record:
        record = self._waiting.popleft().record
        self._bytes -= len(record.json)
        return record

    def _drop_newest(self) -> None:
        self.dropped += 1
        self._lost_behind += 1

    def _drop_oldest(self) -> None:
        lost = self._waiting[0].lost + 1
        self._pop()
        self.dropped += 1
        self._until_thinned -= 1
        if self._waiting:
            self._waiting[0].lost += lost
        else:
            self._lost_behind += lost

    def _thin(self) -> bool:
        """Leave out what later records replace; return whether that made room."""
        if self._until_thinned > 0:
            return False
        kept = {id(record) for record in thinned([one.record for one in self._waiting])}
        remaining: deque[_Waiting] = deque()
        lost = 0
        for one in self._waiting:
            lost += one.lost
            if id(one.record) in kept:
                one.lost, lost = lost, 0
                remaining.append(one)
            else:
                lost += 1
                self._bytes -= len(one.record.json)
        freed = len(self._waiting) - len(remaining)
        self.coalesced += freed
        self._lost_behind += lost
        self._waiting = remaining
        if freed < self._capacity // THIN_AGAIN:
            self._until_thinned = self._capacity // THIN_AGAIN
        return freed > 0
