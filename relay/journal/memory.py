"""The journal of a relay that need not outlive its process."""

import heapq
import secrets
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import cast

from relay.events import LEVELS, Level, Record, rank
from relay.jobs.state import JobState
from relay.journal._ranks import HIGHEST, reaching
from relay.journal.base import Kept, Retention, StoredJob

__all__ = ["MemoryJournal"]

RECORD_OVERHEAD = 700
"""Bytes a kept record costs besides its JSON: the record, its event, its places in two lists (CPython 3.11)."""

CUT_AT = 1_024
"""How many empty places a shelf holds on to, if it has as many records: a move of those costs 8 bytes for each."""

_GONE = cast(Record, None)
"""In the place of a dropped record, or the shelves of many jobs would hold on to more than is kept."""


class MemoryJournal:
    """Records in memory, bounded by *keep*. Every process begins a new epoch, unless it is given one.

    With *after*, it goes on behind that offset, and knows nothing of what came before.
    """

    def __init__(self, keep: Retention | None = None, *, epoch: str | None = None, after: int = 0) -> None:
        self._keep = keep or Retention()
        self._epoch = epoch or secrets.token_hex(4)
        self._head = self._after = after
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

    def expect(self, job: str, last: int) -> None:
        """Know of *job*, which goes on, that its newest record before what is kept here was at the offset *last*."""
        shelf = self._by_job[job] = _Shelf()
        shelf.trimmed_to = last

    @property
    def commit_delay(self) -> float:
        return 0.0

    @property
    def kept(self) -> Kept:
        return Kept(len(self._all), self._bytes)

    @property
    def trimmed_to(self) -> int:
        """The offset behind which every record is kept."""
        return self._all.trimmed_to

    def append(self, record: Record, state: JobState | None = None) -> None:  # noqa: ARG002 - nothing is folded here
        self._pending.append(record)

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        pass

    def remember_owner(self, job: str, owner: str) -> None:
        pass

    def commit(self) -> None:
        if self._pending:
            records, self._pending = self._pending, []
            self.put(records, bytes(map(rank, records)))

    def put(self, records: Sequence[Record], ranks: bytes) -> None:
        """Append and commit *records* at once, one or more that another journal has, with the rank of each."""
        by_job, size = self._by_job, RECORD_OVERHEAD * len(records)
        for record, ranked in zip(records, ranks, strict=True):
            shelf = by_job.get(record.job)
            if shelf is None:
                shelf = self._shelf_for(record)
            shelf.records.append(record)
            shelf.ranks.append(ranked)
            if ranked == HIGHEST and record.event.terminal:
                shelf.ended = record.at
            size += len(record.json)
        self._all.records += records
        self._all.ranks += ranks
        self._bytes += size
        newest = records[-1]
        self._head = newest.position.offset
        self._trim(newest.at)

    def discard(self) -> None:
        self._pending.clear()

    def check(self) -> None:
        pass

    def recover(self) -> Sequence[StoredJob]:
        return ()

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        least = LEVELS.index(level)
        named = [self._all] if jobs is None else [self._by_job[job] for job in jobs if job in self._by_job]
        if len(named) == 1:
            return named[0].behind(after, limit, least)
        return list(islice(heapq.merge(*(shelf.all_behind(after, least) for shelf in named), key=_offset), limit))

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        shelves = [self._all] if jobs is None else [self._by_job.get(job, self._all) for job in jobs]
        return all(shelf.trimmed_to <= offset for shelf in shelves)

    def keeps(self, job: str) -> bool:
        return bool(self._by_job.get(job)) or any(record.job == job for record in self._pending)

    def close(self) -> None:
        self._pending.clear()

    def _shelf_for(self, record: Record) -> "_Shelf":
        shelf = self._by_job[record.job] = _Shelf()
        if record.seq > 1:
            shelf.trimmed_to = self._after
        return shelf

    def _trim(self, newest: datetime) -> None:
        kept, keep = self._all, self._keep
        count = len(kept.records) - kept.start
        while count > 1:
            oldest = kept.records[kept.start]
            shelf = self._by_job[oldest.job]
            if count <= keep.records and self._bytes <= keep.bytes and shelf.age(newest) <= keep.age:
                return
            kept.drop_oldest()
            shelf.drop_oldest()
            count -= 1
            self._bytes -= RECORD_OVERHEAD + len(oldest.json)
            # The empty shelf of a running job stays: it knows up to where the job's records are gone.
            if shelf.ended is not None and not shelf:
                del self._by_job[oldest.job]


class _Shelf:
    """Records in order, dropped from the front. Dropped records are cut off in slices, not one by one.

    The rank of each is a byte beside it, so that what reaches a level is found without a look at what lies between.
    """

    __slots__ = ("ended", "ranks", "records", "start", "trimmed_to")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ranks = bytearray()
        self.start = 0
        self.trimmed_to = 0
        self.ended: datetime | None = None

    def __len__(self) -> int:
        return len(self.records) - self.start

    def age(self, now: datetime) -> float:
        """Seconds since the end of the job; a running one has no age."""
        return (now - self.ended).total_seconds() if self.ended is not None else 0.0

    def drop_oldest(self) -> None:
        start, records = self.start, self.records
        self.trimmed_to = records[start].position.offset
        records[start] = _GONE
        self.start = start = start + 1
        if start == CUT_AT or 2 * start >= len(records):
            del records[:start], self.ranks[:start]
            self.start = 0

    def behind(self, offset: int, limit: int, least: int) -> list[Record]:
        """The oldest *limit* records behind *offset* that rank at *least* so high."""
        if least:
            return list(islice(self.all_behind(offset, least), limit))
        start = self._behind(offset)
        return self.records[start : start + limit]

    def all_behind(self, offset: int, least: int) -> Iterator[Record]:
        """All of them, found as they are read."""
        records, start = self.records, self._behind(offset)
        places = reaching(self.ranks, least, start) if least else range(start, len(records))
        return (records[place] for place in places)

    def _behind(self, offset: int) -> int:
        return bisect_right(self.records, offset, self.start, key=_offset)


def _offset(record: Record) -> int:
    return record.position.offset
