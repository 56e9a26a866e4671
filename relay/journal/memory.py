"""The journal of a relay that need not outlive its process."""

import heapq
import secrets
from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import islice

from relay.events import Record
from relay.jobs import JobState
from relay.journal.base import Keep, StoredJob

__all__ = ["MemoryJournal"]

RECORD_OVERHEAD = 700
"""Bytes a kept record costs besides its JSON: the record, its event, its places in two lists (CPython 3.11)."""

CUT_AT = 1_024
"""How many dropped records a shelf holds on to before it moves the rest: a move costs 8 bytes a kept record."""


class MemoryJournal:
    """Records in memory, bounded by *keep*. Every process begins a new epoch, unless it is given one.

    With *after*, it goes on behind that offset, and knows nothing of what came before.
    """

    def __init__(self, keep: Keep | None = None, *, epoch: str | None = None, after: int = 0) -> None:
        self._keep = keep or Keep()
        self._epoch = epoch or secrets.token_hex(4)
        self._head = after
        self._bytes = 0
        self._pending: list[Record] = []
        self._all = _Shelf()
        self._all.trimmed_to = after
        self._by_job: dict[str, _Shelf] = {}

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def head(self) -> int:
        return self._head

    @property
    def gather(self) -> float:
        return 0.0

    def append(self, record: Record, state: JobState | None = None) -> None:  # noqa: ARG002 - nothing is folded here
        self._pending.append(record)

    def remember(self, job: str, key: str, digest: bytes) -> None:
        pass

    def commit(self) -> None:
        pending, self._pending = self._pending, []
        for record in pending:
            self._head = record.position.offset
            self._bytes += _size(record)
            self._all.append(record)
            self._shelf_for(record).append(record)
            self._trim(record.at)

    def recover(self) -> Sequence[StoredJob]:
        return ()

    def read(self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512) -> Sequence[Record]:
        if jobs is None:
            return self._all.behind(after, limit)
        shelves = [shelf.behind(after, limit) for job in jobs if (shelf := self._by_job.get(job)) is not None]
        return shelves[0] if len(shelves) == 1 else list(islice(heapq.merge(*shelves, key=_offset), limit))

    def complete(self, after: int, jobs: Collection[str] | None = None) -> bool:
        shelves = [self._all] if jobs is None else [self._by_job.get(job, self._all) for job in jobs]
        return all(shelf.trimmed_to <= after for shelf in shelves)

    def keeps(self, job: str) -> bool:
        return bool(self._by_job.get(job)) or any(record.job == job for record in self._pending)

    def close(self) -> None:
        self._pending.clear()

    def _shelf_for(self, record: Record) -> "_Shelf":
        shelf = self._by_job.get(record.job)
        if shelf is None:
            shelf = self._by_job[record.job] = _Shelf()
            if record.seq > 1:
                shelf.trimmed_to = record.position.offset - 1
        return shelf

    def _trim(self, newest: datetime) -> None:
        while len(self._all) > 1 and (
            len(self._all) > self._keep.records
            or self._bytes > self._keep.bytes
            or self._by_job[self._all.oldest().job].age(newest) > self._keep.age
        ):
            record = self._all.drop_oldest()
            self._bytes -= _size(record)
            shelf = self._by_job[record.job]
            shelf.drop_oldest()
            # The empty shelf of a running job stays: it knows up to where the job's records are gone.
            if not shelf and shelf.ended is not None:
                del self._by_job[record.job]


class _Shelf:
    """Records in order, dropped from the front. What is dropped is cut off in slices, not one by one."""

    __slots__ = ("_records", "_start", "ended", "trimmed_to")

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._start = 0
        self.trimmed_to = 0
        self.ended: datetime | None = None

    def __len__(self) -> int:
        return len(self._records) - self._start

    def oldest(self) -> Record:
        return self._records[self._start]

    def append(self, record: Record) -> None:
        self._records.append(record)
        if record.terminal:
            self.ended = record.at

    def age(self, now: datetime) -> float:
        """Seconds since the end of the job; a running one has no age."""
        return (now - self.ended).total_seconds() if self.ended is not None else 0.0

    def drop_oldest(self) -> Record:
        record = self._records[self._start]
        self._start += 1
        self.trimmed_to = record.position.offset
        if self._start >= CUT_AT or self._start == len(self._records):
            del self._records[: self._start]
            self._start = 0
        return record

    def behind(self, offset: int, limit: int) -> list[Record]:
        start = bisect_right(self._records, offset, self._start, key=_offset)
        return self._records[start : start + limit]


def _offset(record: Record) -> int:
    return record.position.offset


def _size(record: Record) -> int:
    return len(record.json) + RECORD_OVERHEAD
