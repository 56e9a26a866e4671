"""Which records a journal in a file drops, by the bounds of its operator, and how they leave."""

import math
import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Final

from relay.journal._batch import Batch, fold
from relay.journal._cursors import SqliteCursors
from relay.journal._index import Entry, Index, size_of
from relay.journal.base import Retention

__all__ = ["Overdue", "Trimming"]

SLICE: Final = 512
"""The most records a commit drops, unless it adds more: a bound that was lowered is reached over many commits."""


class Trimming:
    """Finds the records that a commit is to drop: those beyond *keep*, unless a durable sink still needs them."""

    def __init__(self, index: Index, keep: Retention, cursors: SqliteCursors) -> None:
        self._index = index
        self._keep = keep
        self._cursors = cursors
        self._oldest_since: datetime | None = None

    def may_be_due(self, batch: Batch) -> bool:
        """Whether a bound may be exceeded: to ask the file costs as much as to write a record."""
        index, keep, since = self._index, self._keep, self._oldest_since
        size = index.bytes + batch.size
        exceeded = (
            since is None
            or index.count + len(batch.records) > keep.records
            or size > keep.bytes
            or (batch.newest - since).total_seconds() > keep.age
        )
        return exceeded and index.trimmed_to < self._pinned_behind(size)

    def overdue(self, sql: sqlite3.Connection, batch: Batch) -> "Overdue":
        """The records to drop: the oldest, while a bound is exceeded. The newest always stays."""
        index, keep, now = self._index, self._keep, batch.newest
        count, size = index.count + len(batch.records), index.bytes + batch.size
        most = min(count - 1, max(SLICE, 2 * len(batch.records)))
        overdue = Overdue()
        self._oldest_since = None
        with closing(sql.execute("SELECT offset, job, body FROM records ORDER BY offset LIMIT ?", (most,))) as rows:
            for offset, number, body in rows:
                if offset > self._pinned_behind(size - overdue.bytes):
                    break
                entry = index.numbered.get(number)
                over = count - overdue.count > keep.records or size - overdue.bytes > keep.bytes
                if not over and entry is not None and entry.age(now) <= keep.age:
                    # A running job can only have ended from now on.
                    self._oldest_since = entry.state.updated if entry.state.terminal is not None else now
                    break
                overdue.add(offset, entry, size_of(body))
        return overdue

    def _pinned_behind(self, size: int) -> float:
        """The offset behind which a durable sink keeps all records, where they take *size* bytes."""
        pinned = self._cursors.pinned_behind
        return math.inf if pinned is None or size > self._keep.bytes + self._keep.pin_bytes else pinned


class Overdue:
    """The oldest records, which are to go: up to which offset, of all and of each job, and how much that is."""

    def __init__(self) -> None:
        self.up_to = 0
        self.count = 0
        self.bytes = 0
        self.jobs: dict[Entry, int] = {}

    def add(self, offset: int, entry: Entry | None, size: int) -> None:
        """Add the record at *offset*, which is behind all that were added before."""
        self.up_to = offset
        self.count += 1
        self.bytes += size
        if entry is not None:
            self.jobs[entry] = offset

    def drop(self, sql: sqlite3.Connection) -> None:
        """Drop the records from the file, and the jobs that are over by then."""
        if not self.count:
            return
        sql.execute("DELETE FROM records WHERE offset <= ?", (self.up_to,))
        for entry, offset in self.jobs.items():
            if entry.is_over_by(offset):
                sql.execute("DELETE FROM jobs WHERE number = ?", (entry.number,))
                continue
            sql.execute("UPDATE jobs SET trimmed_to = ? WHERE number = ?", (offset, entry.number))
            if entry.folded_to < offset:
                fold(sql, entry)

    def leave(self, index: Index) -> None:
        """Let the records leave *index*, once the commit that has dropped them has succeeded."""
        index.count -= self.count
        index.bytes -= self.bytes
        index.trimmed_to = max(index.trimmed_to, self.up_to)
        index.offsets.drop(self.up_to)
        for entry, offset in self.jobs.items():
            entry.offsets.drop(offset)
            if entry.is_over_by(offset):
                index.remove(entry)
            entry.trimmed_to = offset
            if entry.folded_to < offset:
                entry.folded_to = entry.last
