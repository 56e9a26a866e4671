"""Where records are kept, behind one small protocol. SQLite is imported when its journal is first named."""

from typing import TYPE_CHECKING, Any

from relay.journal.base import Journal, JournalReader, Retention, StoredJob
from relay.journal.cursors import Cursor, Cursors, KeepsCursors, Parked, Parking
from relay.journal.memory import MemoryJournal

if TYPE_CHECKING:
    from relay.journal.sqlite import SqliteJournal

__all__ = [
    "Cursor",
    "Cursors",
    "Journal",
    "JournalReader",
    "KeepsCursors",
    "MemoryJournal",
    "Parked",
    "Parking",
    "Retention",
    "SqliteJournal",
    "StoredJob",
]


def __getattr__(name: str) -> Any:
    if name != "SqliteJournal":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from relay.journal.sqlite import SqliteJournal

    return SqliteJournal
