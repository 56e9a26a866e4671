"""Cursors of durable sinks in the file of the journal, written in the transactions of its records."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.errors import UsageError
from relay.journal._file import JournalFile
from relay.journal._parking import SqliteParking
from relay.journal.cursors import Cursor
from relay.notices import Notify

__all__ = ["FORGOTTEN_AFTER", "SqliteCursors", "stored_cursors"]

FORGOTTEN_AFTER: Final = timedelta(days=7)
"""For how long a cursor that no sink claims still pins records: from its last move to the newest record of all."""

CURSORS: Final = "SELECT name, offset, used FROM cursors ORDER BY name"
_STORE: Final = """INSERT INTO cursors (name, offset, used) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET offset = excluded.offset, used = excluded.used"""


class _Place:
    """Where one sink is, whether a sink of this process uses it, and whether the file knows it."""

    __slots__ = ("claimed", "offset", "pins", "used")

    def __init__(self, offset: int, used: datetime) -> None:
        self.offset = offset
        self.used = used
        self.claimed = False
        self.pins = True


class SqliteCursors:
    """The cursors in *file*, whose newest record is at the offset *head*, of the time *newest*."""

    def __init__(self, file: JournalFile, parking: SqliteParking, head: int, newest: datetime, notify: Notify) -> None:
        self._file = file
        self._parking = parking
        self._newest = newest
        self._moved = dict[str, _Place]()
        self._places = {
            # A cursor is committed behind its record, and no power cut leaves a later commit without an earlier one.
            name: _Place(min(offset, head), datetime.fromtimestamp(used, UTC))
            for name, offset, used in file.sql.execute(CURSORS)
        }
        for name in [name for name, place in self._places.items() if self._is_over_age(place)]:
            self.forget(name)
            notify(f"no sink called {name} was there for {FORGOTTEN_AFTER.days} days, so its cursor is forgotten")

    def claim(self, name: str, start: int) -> int:
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = _Place(start, self._newest)
        elif place.claimed:
            raise UsageError(f"two durable sinks are called {name!r}; give each a name of its own")
        place.claimed = place.pins = True
        self._moved[name] = place
        return place.offset

    def move(self, name: str, offset: int) -> None:
        self._moved[name] = place = self._places[name]
        place.offset = offset

    def save(self) -> None:
        if self._moved:
            with self._file.transaction() as sql:
                self.write(sql, self._newest)
            self.written(self._newest)
            self._file.written(0)

    def release(self, name: str, *, pins: bool = True) -> None:
        place = self._places[name]
        place.claimed, place.pins = False, pins

    def forget(self, name: str) -> None:
        if (place := self._places.get(name)) is not None and place.claimed:
            raise UsageError(f"the sink {name!r} is at work; remove it before its cursor is forgotten")
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM cursors WHERE name = ?", (name,))
            sql.execute("DELETE FROM parked WHERE name = ?", (name,))
        self._places.pop(name, None)
        self._moved.pop(name, None)
        self._parking.forgotten(name)

    def all(self) -> Sequence[Cursor]:
        return [
            Cursor(name=name, offset=place.offset, used=place.used, pins=self._does_pin(place))
            for name, place in sorted(self._places.items())
        ]

    @property
    def pinned_behind(self) -> int | None:
        """The offset behind which records wait for a sink; None if they wait for none."""
        if not self._places:
            return None
        return min((place.offset for place in self._places.values() if self._does_pin(place)), default=None)

    def write(self, sql: sqlite3.Connection, newest: datetime) -> None:
        """Within a transaction: store what has moved, as of a newest record of that time."""
        if self._moved:
            sql.executemany(_STORE, [(name, place.offset, newest.timestamp()) for name, place in self._moved.items()])

    def written(self, newest: datetime) -> None:
        """What `write` was given is committed."""
        self._newest = newest
        for place in self._moved.values():
            place.used = newest
        self._moved.clear()

    def _does_pin(self, place: _Place) -> bool:
        return place.pins and (place.claimed or not self._is_over_age(place))

    def _is_over_age(self, place: _Place) -> bool:
        return self._newest - place.used > FORGOTTEN_AFTER


def stored_cursors(sql: sqlite3.Connection) -> Iterable[tuple[str, int]]:
    """Name and offset of each cursor in a journal that a relay may be writing; none in one of an older version."""
    tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [(name, offset) for name, offset, _ in sql.execute(CURSORS)] if "cursors" in tables else []
