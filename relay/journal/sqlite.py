"""The journal that outlives its process: one SQLite file."""

import heapq
import math
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from relay.events import LEVELS, Level, Record, rank
from relay.jobs.state import JobState, evolve
from relay.journal._cursors import SqliteCursors
from relay.journal._file import JournalFile, in_use
from relay.journal._index import ROWS, Entry, Index, Row, load_index, record_in, size_of
from relay.journal._parking import SqliteParking
from relay.journal._reading import stored_dead_letters, stored_owner, stored_records
from relay.journal._trouble import trouble
from relay.journal.base import Kept, Retention, StoredJob
from relay.journal.cursors import Cursors, Parking
from relay.journal.memory import MemoryJournal
from relay.notices import Notify, notice

__all__ = ["SqliteJournal", "in_use", "stored_dead_letters", "stored_owner", "stored_records"]

RECENT_RECORDS: Final = 10_000
RECENT_BYTES: Final = 16 * 1024 * 1024
"""How much is kept in memory as well: live readers, and those that come back soon, never wait for SQL."""

SLICE: Final = 512
"""The most records a commit drops, unless it adds more: a bound that was lowered is reached over many commits."""

COMMIT_DELAY: Final = 0.005
"""A commit of one record costs 34 us in SQLite, one of ten 82 us, one of a hundred 410 us. Nobody sees 5 ms."""

_encode = msgspec.json.Encoder().encode


class SqliteJournal:
    """Records in the file at *path*, bounded by *keep*, for one process at a time.

    Committed records survive the process, however that ends: `kill -9` loses nothing. A power cut or a crash of the
    machine may lose the last commits (WAL, synchronous=NORMAL), but never damages the file; a new epoch begins after
    one (on Linux, which names each boot), so that no reader mistakes the new records for the old. Not for network
    file systems.

    A record that cannot be read is left out: *notify* gets their number and place, and `has_all_since` is false there.
    Raises JournalError for a file that is in use, not ours, of a newer version, or damaged as a whole; it is left as it
    is.
    """

    def __init__(self, path: str | Path, keep: Retention | None = None, *, notify: Notify = notice) -> None:
        self._keep = keep or Retention()
        self._notify = notify
        self._pending: list[Record] = []
        self._unwritten: list[Entry] = []
        self._before: dict[Entry, tuple[JobState, int]] = {}
        self._oldest_since: datetime | None = None
        self._keys: dict[str, tuple[str | None, bytes]] = {}
        self._owners: dict[str, str] = {}
        with ExitStack() as stack:
            self._file = JournalFile(path, notify)
            stack.callback(self._file.close)
            self._index = self._load_index()
            self._recent = self._load_recent()
            self.parking: Parking = SqliteParking(self._file, self.epoch, self._keep.pin_bytes, notify)
            self._cursors = SqliteCursors(self._file, self.parking, self.head, self._index.newest, notify)
            self.cursors: Cursors = self._cursors
            stack.pop_all()
        if unreadable := self._index.unreadable:
            self._notify(
                f"the journal {self._file.name} has {len(unreadable):,} that cannot be read among its"
                f" {self._index.count:,} records, the first at offset {min(unreadable)}; they are left out, and readers"
                " get a gap"
            )

    @property
    def epoch(self) -> str:
        return self._file.epoch

    @property
    def head(self) -> int:
        return self._index.head

    @property
    def commit_delay(self) -> float:
        return COMMIT_DELAY

    @property
    def kept(self) -> Kept:
        return Kept(self._index.count, self._index.bytes)

    def append(self, record: Record, state: JobState | None = None) -> None:
        entry = self._index.jobs.get(record.job)
        if entry is None:
            entry = self._index.enter(record.job)
            self._unwritten.append(entry)
        else:
            self._before.setdefault(entry, (entry.state, entry.last))
        entry.state = evolve(entry.state, record) if state is None else state
        entry.last = record.position.offset
        self._pending.append(record)

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        self._keys[job] = (key, digest)

    def remember_owner(self, job: str, owner: str) -> None:
        self._owners[job] = owner

    def commit(self) -> None:
        if not self._pending:
            self._file.probe()
            return self._cursors.save()
        newest = self._pending[-1].at
        overdue = _Overdue()
        try:
            with self._file.transaction() as sql:
                self._insert(sql)
                if self._may_be_overdue():
                    overdue = self._overdue(sql)
                if overdue.count:
                    self._drop(sql, overdue)
                self._cursors.write(sql, newest)
        except Exception:
            # After some failures, of a sync say, all of it is in the file nevertheless.
            if not self._is_stored(self._pending[-1]):
                raise
        self._note(overdue)
        self._cursors.written(newest)
        written = self._pending
        self._clear()
        for record in written:
            self._recent.append(record)
        self._recent.commit()
        self._file.written(len(written))

    def discard(self) -> None:
        for entry, before in self._before.items():
            entry.state, entry.last = before
        for entry in self._unwritten:
            self._index.remove(entry)
        self._clear()

    def check(self) -> None:
        self._file.try_out()

    def recover(self) -> Sequence[StoredJob]:
        rows = self._file.sql.execute("SELECT number, key, digest, owner FROM jobs ORDER BY number")
        jobs = ((self._index.numbered[number], key, digest, owner) for number, key, digest, owner in rows)
        return [
            StoredJob(id=entry.id, state=entry.state, key=key, digest=digest or b"", owner=owner)
            for entry, key, digest, owner in jobs
        ]

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        if self._recent.has_all_since(after, jobs):
            return self._recent.read(after, jobs, limit=limit, level=level)
        with closing(self._stored(after, jobs, level)) as records:
            return list(islice(records, limit))

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        return self._index.hole_to(jobs) <= offset

    def keeps(self, job: str) -> bool:
        entry = self._index.jobs.get(job)
        return entry is not None and entry.last > entry.trimmed_to

    def close(self) -> None:
        self._file.close()

    def _clear(self) -> None:
        self._pending, self._unwritten, self._keys, self._owners, self._before = [], [], {}, {}, {}

    def _is_stored(self, record: Record) -> bool:
        try:
            row = self._file.sql.execute("SELECT body FROM records WHERE offset = ?", (record.position.offset,))
            return bool(row.fetchone() == (record.json,))
        except sqlite3.Error:
            return False

    def _insert(self, sql: sqlite3.Connection) -> None:
        sql.executemany(
            "INSERT INTO jobs (number, id, owner) VALUES (?, ?, ?)",
            [(new.number, new.id, self._owners.get(new.id, "")) for new in self._unwritten],
        )
        for job, (key, digest) in self._keys.items():
            sql.execute("UPDATE jobs SET key = ?, digest = ? WHERE id = ?", (key, digest, job))
        sql.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", map(self._row, self._pending))
        for record in self._pending:
            if record.terminal:
                _fold(sql, self._index.jobs[record.job])

    def _row(self, record: Record) -> Row:
        return record.position.offset, self._index.jobs[record.job].number, crc32(record.json), record.json

    def _may_be_overdue(self) -> bool:
        """Whether a bound may be exceeded: to ask the file costs as much as to write a record."""
        count, size = self._with_pending()
        if self._index.trimmed_to >= self._pinned_behind(size):
            return False
        since, now = self._oldest_since, self._pending[-1].at
        aged = since is None or (now - since).total_seconds() > self._keep.age
        return aged or count > self._keep.records or size > self._keep.bytes

    def _pinned_behind(self, size: int) -> float:
        """The offset behind which a durable sink keeps all records, where they take *size* bytes."""
        pinned = self._cursors.pinned_behind
        return math.inf if pinned is None or size > self._keep.bytes + self._keep.pin_bytes else pinned

    def _with_pending(self) -> tuple[int, int]:
        added = sum(size_of(record.json) for record in self._pending)
        return self._index.count + len(self._pending), self._index.bytes + added

    def _overdue(self, sql: sqlite3.Connection) -> "_Overdue":
        """The records to drop: the oldest, while a bound is exceeded. The newest always stays."""
        index, keep, now = self._index, self._keep, self._pending[-1].at
        count, size = self._with_pending()
        most = min(count - 1, max(SLICE, 2 * len(self._pending)))
        overdue = _Overdue()
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

    def _drop(self, sql: sqlite3.Connection, overdue: "_Overdue") -> None:
        sql.execute("DELETE FROM records WHERE offset <= ?", (overdue.up_to,))
        for entry, offset in overdue.jobs.items():
            if entry.is_over_by(offset):
                sql.execute("DELETE FROM jobs WHERE number = ?", (entry.number,))
                continue
            sql.execute("UPDATE jobs SET trimmed_to = ? WHERE number = ?", (offset, entry.number))
            if entry.folded_to < offset:
                _fold(sql, entry)

    def _note(self, overdue: "_Overdue") -> None:
        """Know what has become true with a commit that succeeded."""
        index = self._index
        index.head = self._pending[-1].position.offset
        index.count += len(self._pending) - overdue.count
        index.bytes += sum(size_of(record.json) for record in self._pending) - overdue.bytes
        index.trimmed_to = max(index.trimmed_to, overdue.up_to)
        for record in self._pending:
            entry = index.jobs[record.job]
            index.rank(entry, record.position.offset, rank(record))
            if record.terminal:
                entry.folded_to = record.position.offset
        index.ranked.drop(overdue.up_to)
        for entry, offset in overdue.jobs.items():
            entry.ranked.drop(offset)
            if entry.is_over_by(offset):
                index.remove(entry)
            entry.trimmed_to = offset
            if entry.folded_to < offset:
                entry.folded_to = entry.last

    def _load_index(self) -> Index:
        try:
            return load_index(self._file.sql, self.epoch)
        except sqlite3.Error as error:
            raise trouble(self._file.name, error) from error

    def _load_recent(self) -> MemoryJournal:
        keep = Retention(
            records=min(RECENT_RECORDS, self._keep.records),
            bytes=min(RECENT_BYTES, self._keep.bytes),
            age=self._keep.age,
        )
        recent = MemoryJournal(keep, epoch=self.epoch, after=max(0, self.head - keep.records))
        for record in self._stored(recent.head, None):
            recent.append(record)
        recent.commit()
        return recent

    def _stored(self, after: int, jobs: Collection[str] | None, level: Level = LEVELS[0]) -> Generator[Record]:
        """The records in the file behind *after*, without those that cannot be read. Raises JournalError."""
        try:
            with closing(self._rows(after, jobs) if level == LEVELS[0] else self._rows_of(after, jobs, level)) as rows:
                for row in rows:
                    if row[0] in self._index.unreadable:
                        continue
                    record = record_in(row, self.epoch)
                    if record is not None:
                        yield record
                    else:
                        self._index.leave_out(row[0], row[1])
                        self._notify(f"the journal {self._file.name} cannot be read at offset {row[0]}")
        except sqlite3.Error as error:
            raise trouble(self._file.name, error) from error

    def _rows(self, after: int, jobs: Collection[str] | None) -> Generator[Row]:
        """One walk of an index for each job, merged: it costs what is read of it, however much lies between."""
        sql = self._file.sql
        if jobs is None:
            walks = [sql.execute(f"{ROWS} WHERE offset > ? ORDER BY offset", (after,))]
        else:
            entries = (self._index.jobs.get(job) for job in jobs)
            numbers = [entry.number for entry in entries if entry is not None and entry.last > after]
            of_one = f"{ROWS} WHERE job = ? AND offset > ? ORDER BY offset"
            walks = [sql.execute(of_one, (number, after)) for number in numbers]
        try:
            yield from walks[0] if len(walks) == 1 else heapq.merge(*walks)
        finally:
            for walk in walks:
                walk.close()

    def _rows_of(self, after: int, jobs: Collection[str] | None, level: Level) -> Generator[Row]:
        """What reaches readers of *level*, one look-up each."""
        for offset in self._index.reaching(level, after, jobs):
            yield from self._file.sql.execute(f"{ROWS} WHERE offset = ?", (offset,))


class _Overdue:
    """The oldest records, which are to go: up to which offset, of all and of each job, and how much that is."""

    def __init__(self) -> None:
        self.up_to = 0
        self.count = 0
        self.bytes = 0
        self.jobs: dict[Entry, int] = {}

    def add(self, offset: int, entry: Entry | None, size: int) -> None:
        self.up_to = offset
        self.count += 1
        self.bytes += size
        if entry is not None:
            self.jobs[entry] = offset


def _fold(sql: sqlite3.Connection, entry: Entry) -> None:
    """Keep what the job has become, so that no record up to now is needed to know it."""
    state = (_encode(entry.state), entry.last, entry.number)
    sql.execute("UPDATE jobs SET state = ?, folded_to = ? WHERE number = ?", state)
