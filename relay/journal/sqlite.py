"""The journal that outlives its process: one SQLite file."""

import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, closing
from itertools import chain, islice
from pathlib import Path
from typing import Final

from relay.events import LEVELS, Level, Record, rank
from relay.jobs.state import JobState
from relay.journal._batch import Batch
from relay.journal._cursors import SqliteCursors
from relay.journal._file import JournalFile
from relay.journal._index import ROWS, Index, Row, load_index, record_in
from relay.journal._opening import in_use
from relay.journal._parking import SqliteParking
from relay.journal._reading import stored_dead_letters, stored_owner, stored_records
from relay.journal._recent import Recent
from relay.journal._trimming import Trimming
from relay.journal._trouble import trouble
from relay.journal.base import Kept, Retention, StoredJob
from relay.journal.cursors import Cursors, Parking
from relay.notices import Notify, notice

__all__ = ["SqliteJournal", "in_use", "stored_dead_letters", "stored_owner", "stored_records"]

RECENT_RECORDS: Final = 10_000
RECENT_BYTES: Final = 16 * 1024 * 1024
"""How much is kept in memory as well: live readers, and those that come back soon, never wait for SQL."""

LOOK_UPS: Final = 16
"""How many records one statement looks up where not all are read: two thirds of the price of a statement each."""

COMMIT_DELAY: Final = 0.005
"""A commit of one record costs 34 us in SQLite, one of ten 82 us, one of a hundred 410 us. Nobody sees 5 ms."""


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
        with ExitStack() as stack:
            self._file = JournalFile(path, notify)
            stack.callback(self._file.close)
            self._index = self._load_index()
            self._batch = Batch(self._index)
            self._recent = self._load_recent()
            self.parking: Parking = SqliteParking(self._file, self.epoch, self._keep.pin_bytes, notify)
            self._cursors = SqliteCursors(self._file, self.parking, self.head, self._index.newest, notify)
            self.cursors: Cursors = self._cursors
            self._trimming = Trimming(self._index, self._keep, self._cursors)
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
        self._batch.append(record, state)

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        self._batch.keys[job] = (key, digest)

    def remember_owner(self, job: str, owner: str) -> None:
        self._batch.owners[job] = owner

    def commit(self) -> None:
        batch, overdue = self._batch, None
        if not batch.records:
            self._file.probe()
            return self._cursors.save()
        batch.prepare()
        try:
            with self._file.transaction() as sql:
                batch.insert(sql)
                if self._trimming.may_be_due(batch):
                    overdue = self._trimming.overdue(sql, batch)
                    overdue.drop(sql)
                self._cursors.write(sql, batch.newest)
        except Exception:
            # After some failures, of a sync say, all of it is in the file nevertheless.
            if not self._is_stored(batch.records[-1]):
                raise
        self._batch = Batch(self._index)
        self._note(batch)
        if overdue is not None:
            overdue.leave(self._index)
            self._recent.drop(overdue.up_to)
        self._cursors.written(batch.newest)
        self._file.written(len(batch.records))

    def discard(self) -> None:
        self._batch.undo()
        self._batch = Batch(self._index)

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
        recent = self._recent
        if jobs is None and level == LEVELS[0]:
            if after >= recent.trimmed_to:
                return recent.behind(after, limit)
        else:
            offsets = self._index.reaching(level, after, jobs)
            first = next(offsets, None)
            if first is None:
                return []
            if first > recent.trimmed_to:
                return recent.at(chain((first,), offsets), limit)
        with closing(self._stored(after, jobs, level)) as records:
            return list(islice(records, limit))

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        return self._index.hole_to(jobs) <= offset

    def keeps(self, job: str) -> bool:
        entry = self._index.jobs.get(job)
        kept = entry is not None and entry.last > entry.trimmed_to
        return kept or any(record.job == job for record in self._batch.records)

    def close(self) -> None:
        self._file.close()

    def _is_stored(self, record: Record) -> bool:
        try:
            row = self._file.sql.execute("SELECT body FROM records WHERE offset = ?", (record.position.offset,))
            return bool(row.fetchone() == (record.json,))
        except sqlite3.Error:
            return False

    def _note(self, batch: Batch) -> None:
        """Know what has become true with a commit that succeeded."""
        index, records, ranks = self._index, batch.records, bytes(map(rank, batch.records))
        offsets = [record.position.offset for record in records]
        for entry, offset, ranked in zip(batch.entries, offsets, ranks, strict=True):
            entry.offsets.add(offset, ranked)
        index.offsets.extend(offsets, ranks)
        index.head = offsets[-1]
        index.count += len(records)
        index.bytes += batch.size
        batch.written()
        self._recent.put(records, batch.size)

    def _load_index(self) -> Index:
        try:
            return load_index(self._file.sql, self.epoch)
        except sqlite3.Error as error:
            raise trouble(self._file.name, error) from error

    def _load_recent(self) -> Recent:
        most = min(RECENT_RECORDS, self._keep.records)
        recent = Recent(most, min(RECENT_BYTES, self._keep.bytes), max(0, self.head - most))
        recent.load(self._stored(recent.trimmed_to, None))
        return recent

    def _stored(self, after: int, jobs: Collection[str] | None, level: Level = LEVELS[0]) -> Generator[Record]:
        """The records in the file behind *after*, without those that cannot be read. Raises JournalError."""
        try:
            with closing(self._rows(after, jobs, level)) as rows:
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

    def _rows(self, after: int, jobs: Collection[str] | None, level: Level) -> Generator[Row]:
        """All rows in one walk, or some with a look-up each: it costs what is read, however much lies between."""
        sql = self._file.sql
        if jobs is None and level == LEVELS[0]:
            with closing(sql.execute(f"{ROWS} WHERE offset > ? ORDER BY offset", (after,))) as rows:
                yield from rows
        else:
            offsets = self._index.reaching(level, after, jobs)
            while several := tuple(islice(offsets, LOOK_UPS)):
                places = ", ".join("?" * len(several))
                with closing(sql.execute(f"{ROWS} WHERE offset IN ({places}) ORDER BY offset", several)) as rows:
                    yield from rows
