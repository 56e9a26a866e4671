"""Records that wait for one sink apart, in the file of the journal."""

import sqlite3
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple
from zlib import crc32

from relay.events import Record
from relay.journal._file import JournalFile
from relay.journal._index import record_in, size_of
from relay.journal.cursors import Parked
from relay.notices import Notify

__all__ = ["SqliteParking"]

ROWS: Final = "SELECT number, offset, job, crc, body, attempts, since, due, dead FROM parked"
FIRST: Final = "SELECT number, due FROM parked WHERE name = ? AND job = ? AND dead = 0 ORDER BY offset LIMIT 1"
HEAD: Final = "UPDATE parked SET attempts = ?, since = ?, due = ? WHERE number = ?"
NO_HEAD: Final = "UPDATE parked SET due = NULL WHERE name = ? AND job = ? AND dead = 0 AND due IS NOT NULL"
WAKE: Final = """UPDATE parked SET due = ?
    WHERE number IN (SELECT number FROM parked WHERE name = ? AND due > ? LIMIT ?)"""
DROPPED_AT_ONCE: Final = 64

_Row = tuple[int, int, str, int, bytes, int, float, float | None, int]


class _Held(NamedTuple):
    """A row, as far as it counts."""

    number: int
    job: str
    dead: int
    size: int


class SqliteParking:
    """The table `parked` of *file*, of a journal with this *epoch*: up to *room* bytes for each sink."""

    def __init__(self, file: JournalFile, epoch: str, room: int, notify: Notify) -> None:
        self._file = file
        self._epoch = epoch
        self._room = room
        self._notify = notify
        self._waiting: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        for name, dead, size in file.sql.execute("SELECT name, dead, length(body) FROM parked"):
            self._waiting[name] += not dead
            self._bytes[name] += size_of(b"") + size

    def park(self, name: str, records: Sequence[Record], *, attempts: int = 0, since: float = 0.0, due: float) -> int:
        with self._change() as change:
            for record in records:
                if change.find(name, record.position.offset) is None:
                    change.insert(name, record, dead=False)
            change.set_head(name, records[0].job, attempts, since, due)
            return change.make_room(name, self._bytes[name], self._room, due)

    def holds(self, name: str, job: str) -> bool:
        if not self._waiting[name]:
            return False
        of_job = "SELECT 1 FROM parked WHERE name = ? AND job = ? AND dead = 0 LIMIT 1"
        return self._file.sql.execute(of_job, (name, job)).fetchone() is not None

    def waiting(self, name: str) -> int:
        return self._waiting[name]

    def heads(self, name: str, due: float, limit: int, without: Collection[str] = ()) -> Sequence[Parked]:
        if not self._waiting[name]:
            return []
        query = f"{ROWS} WHERE name = ? AND due <= ? ORDER BY due, offset LIMIT ?"
        rows = self._file.sql.execute(query, (name, due, limit + len(without))).fetchall()
        return self._read(name, [row for row in rows if row[2] not in without][:limit], due)

    def next_due(self, name: str, without: Collection[str] = ()) -> float | None:
        if not self._waiting[name]:
            return None
        query = "SELECT due, job FROM parked WHERE name = ? AND due IS NOT NULL ORDER BY due LIMIT ?"
        rows = self._file.sql.execute(query, (name, 1 + len(without)))
        return next((float(due) for due, job in rows.fetchall() if job not in without), None)

    def put_off(self, name: str, offset: int, attempts: int, due: float) -> None:
        with self._change() as change:
            later = "UPDATE parked SET attempts = ?, due = ? WHERE name = ? AND offset = ? AND due IS NOT NULL"
            change.sql.execute(later, (attempts, due, name, offset))

    def unpark(self, name: str, offset: int, due: float) -> None:
        with self._change() as change:
            if (held := change.find(name, offset)) is not None:
                change.delete(name, held)
                change.set_head(name, held.job, 0, 0.0, due)

    def bury(self, name: str, records: Sequence[Record], *, attempts: int, since: float, due: float) -> None:
        with self._change() as change:
            for record in records:
                if (held := change.find(name, record.position.offset)) is not None:
                    change.delete(name, held)
                change.insert(name, record, dead=True, attempts=attempts, since=since)
                change.set_head(name, record.job, 0, 0.0, due)
            change.make_room(name, self._bytes[name], self._room, due)

    def wake(self, name: str, due: float, limit: int) -> int:
        if not self._waiting[name]:
            return 0
        with self._change() as change:
            woken = change.sql.execute(WAKE, (due, name, due, limit))
            return woken.rowcount

    def dead(self, name: str, after: int = 0, limit: int = 512) -> Sequence[Parked]:
        query = f"{ROWS} WHERE name = ? AND offset > ? AND dead = 1 ORDER BY offset LIMIT ?"
        return self._read(name, self._file.sql.execute(query, (name, after, limit)).fetchall(), 0.0)

    def revive(self, name: str, offset: int, due: float) -> bool:
        with self._change() as change:
            held = change.find(name, offset)
            if held is None or not held.dead:
                return False
            change.sql.execute("UPDATE parked SET dead = 0, attempts = 0 WHERE number = ?", (held.number,))
            change.waiting[name] += 1
            change.set_head(name, held.job, 0, 0.0, due)
            return True

    def forgotten(self, name: str) -> None:
        """All that was parked for the sink *name* has been dropped."""
        del self._waiting[name], self._bytes[name]

    @contextmanager
    def _change(self) -> Generator["_Change"]:
        with self._file.transaction() as sql:
            change = _Change(sql)
            yield change
        # Only now it is true. A change of nothing is a commit of nothing.
        self._waiting.update(change.waiting)
        self._bytes.update(change.bytes)
        self._file.written(0)

    def _read(self, name: str, rows: Sequence[_Row], due: float) -> list[Parked]:
        """The records in *rows*; one that cannot be read is dropped, and reported."""
        found: list[Parked] = []
        for number, offset, job, crc, body, attempts, since, when, dead in rows:
            record = record_in((offset, number, crc, body), self._epoch)
            if record is not None:
                parked = Parked(record=record, attempts=attempts, since=since, due=when, dead=bool(dead))
                found.append(parked)
                continue
            with self._change() as change:
                change.delete(name, _Held(number, job, dead, size_of(body)))
                change.set_head(name, job, 0, 0.0, due)
            self._notify(f"the record parked for sink {name} at offset {offset} cannot be read, and is left out")
        return found


class _Change:
    """What one transaction does to the table, and what that does to the counts once it is committed."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self.sql = sql
        self.waiting: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def find(self, name: str, offset: int) -> _Held | None:
        query = "SELECT number, job, dead, length(body) FROM parked WHERE name = ? AND offset = ?"
        found = self.sql.execute(query, (name, offset)).fetchone()
        if found is None:
            return None
        number, job, dead, size = found
        return _Held(number, job, dead, size + size_of(b""))

    def insert(self, name: str, record: Record, *, dead: bool, attempts: int = 0, since: float = 0.0) -> None:
        self.sql.execute(
            "INSERT INTO parked (name, offset, job, crc, body, attempts, since, dead) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, record.position.offset, record.job, crc32(record.json), record.json, attempts, since, dead),
        )
        self.waiting[name] += not dead
        self.bytes[name] += size_of(record.json)

    def delete(self, name: str, held: _Held) -> None:
        self.sql.execute("DELETE FROM parked WHERE number = ?", (held.number,))
        self.waiting[name] -= not held.dead
        self.bytes[name] -= held.size

    def set_head(self, name: str, job: str, attempts: int, since: float, due: float) -> None:
        """See that the first record of *job* is its head, and no other; these figures are for one that was not yet."""
        first = self.sql.execute(FIRST, (name, job)).fetchone()
        if first is not None and first[1] is None:
            self.sql.execute(NO_HEAD, (name, job))
            self.sql.execute(HEAD, (attempts, since, due, first[0]))

    def make_room(self, name: str, before: int, room: int, due: float) -> int:
        """Drop dead letters and then the oldest records while more than *room* bytes are there; the number of these."""
        lost = 0
        while before + self.bytes[name] > room:
            query = (
                "SELECT number, job, dead, length(body) FROM parked WHERE name = ? ORDER BY dead DESC, offset LIMIT ?"
            )
            rows = self.sql.execute(query, (name, DROPPED_AT_ONCE)).fetchall()
            for number, job, dead, size in rows:
                self.delete(name, _Held(number, job, dead, size + size_of(b"")))
                self.set_head(name, job, 0, 0.0, due)
                lost += not dead
                if before + self.bytes[name] <= room:
                    break
            if not rows:
                break
        return lost
