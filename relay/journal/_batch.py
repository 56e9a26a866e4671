"""The next commit of a journal on disk: everything that it needs is made in one pass over its records."""

import sqlite3
from datetime import datetime
from typing import Final
from zlib import crc32

import msgspec

from relay.events import Record
from relay.jobs.state import JobState, evolve
from relay.journal._index import RECORD_OVERHEAD, Entry, Index, Row

__all__ = ["Batch", "fold"]

_INSERT: Final = "INSERT INTO records VALUES (?, ?, ?, ?)"
_ENTER: Final = "INSERT INTO jobs (number, id, owner) VALUES (?, ?, ?)"
_REMEMBER: Final = "UPDATE jobs SET key = ?, digest = ? WHERE id = ?"
_FOLD: Final = "UPDATE jobs SET state = ?, folded_to = ? WHERE number = ?"

_encode = msgspec.json.Encoder().encode


class Batch:
    """The records since the last commit, in order, and what comes with them. *index* has their jobs as of the last one.

    Once they are *prepared*, *entries* are the jobs of *records*, one for each, and *size* is how many bytes these take
    in the file.
    """

    __slots__ = (
        "_before",
        "_begun",
        "_ended",
        "_index",
        "_rows",
        "_states",
        "entries",
        "keys",
        "owners",
        "records",
        "size",
    )

    def __init__(self, index: Index) -> None:
        self.records: list[Record] = []
        self.entries: list[Entry] = []
        self.size: int = 0
        self.keys: dict[str, tuple[str | None, bytes]] = {}
        self.owners: dict[str, str] = {}
        self._index = index
        self._states: list[JobState | None] = []
        self._rows: list[Row] = []
        self._begun: list[Entry] = []
        self._ended: list[Entry] = []
        self._before: dict[Entry, tuple[JobState, int]] = {}

    def append(self, record: Record, state: JobState | None) -> None:
        """Have *record* behind all others; *state* is that of its job after it, if that is known."""
        self.records.append(record)
        self._states.append(state)

    def prepare(self) -> None:
        """Let the index have the states of the jobs as of these records, until `undo`, and make what is written."""
        done, index, before, rows, entries = len(self._rows), self._index, self._before, self._rows, self.entries
        for record, state in zip(self.records[done:], self._states[done:], strict=True):
            entry = index.jobs.get(record.job)
            if entry is None:
                entry = index.enter(record.job)
                self._begun.append(entry)
            elif entry not in before:
                before[entry] = entry.state, entry.last
            entry.state = evolve(entry.state, record) if state is None else state
            entry.last = offset = record.position.offset
            body = record.json
            entries.append(entry)
            rows.append((offset, entry.number, crc32(body), body))
            self.size += RECORD_OVERHEAD + len(body)
            if record.event.terminal:
                self._ended.append(entry)

    @property
    def newest(self) -> datetime:
        """The time of the newest record; there is one."""
        return self.records[-1].at

    def insert(self, sql: sqlite3.Connection) -> None:
        """Within a transaction: write all of it. The state of a job that has ended is kept with the job."""
        if self._begun:
            sql.executemany(_ENTER, [(new.number, new.id, self.owners.get(new.id, "")) for new in self._begun])
        for job, (key, digest) in self.keys.items():
            sql.execute(_REMEMBER, (key, digest, job))
        if len(self._rows) == 1:
            sql.execute(_INSERT, self._rows[0])
        else:
            sql.executemany(_INSERT, self._rows)
        for entry in self._ended:
            fold(sql, entry)

    def written(self) -> None:
        """All of it is committed: a state that was folded need not be folded again."""
        for entry in self._ended:
            entry.folded_to = entry.last

    def undo(self) -> None:
        """The index is as it was before."""
        for entry, before in self._before.items():
            entry.state, entry.last = before
        for entry in self._begun:
            self._index.remove(entry)


def fold(sql: sqlite3.Connection, entry: Entry) -> None:
    """Within a transaction: keep what the job has become, so that no record up to now is needed to know it."""
    sql.execute(_FOLD, (_encode(entry.state), entry.last, entry.number))
