"""Where records are kept, behind one small protocol."""

from relay.journal.base import Journal, Keep, StoredJob
from relay.journal.memory import MemoryJournal

__all__ = ["Journal", "Keep", "MemoryJournal", "StoredJob"]
