"""The journal behind a cursor, read a slice at a time: what there is, and how much there should have been."""

from collections.abc import Callable
from typing import Final, NamedTuple

from relay.events import Record
from relay.journal import JournalReader

__all__ = ["SLICE", "Portion", "Tail"]

SLICE: Final = 64
"""How many records are read at once: 0.4 ms from the file. Then others have their turn."""


class Portion(NamedTuple):
    """The next records that the sink wants, and how many of any kind are gone before the last of them."""

    records: list[Record]
    lost: int


class Tail:
    """Reads *journal* behind the offset *after*. *wanted* says which records the sink wants; it does not raise."""

    def __init__(self, journal: JournalReader, after: int, wanted: Callable[[Record], bool]) -> None:
        self.after: int = after
        """The offset up to which all has been read."""
        self._journal = journal
        self._wanted = wanted

    @property
    def is_at_head(self) -> bool:
        """Whether all that is committed has been read."""
        return self.after >= self._journal.head

    def read(self, most: int = SLICE) -> Portion:
        """Read on, over up to *most* records.

        Offsets have no holes: where the next records are further on, those between were dropped, since they exceeded
        the bound for pinned records, or they cannot be read. Raises JournalError if the file cannot be read.
        """
        most = min(most, SLICE)
        head = self._journal.head
        records = self._journal.read(self.after, limit=most)
        last = records[-1].position.offset if len(records) == most else max(head, self.after)
        lost = last - self.after - len(records)
        self.after = last
        return Portion([record for record in records if self._wanted(record)], lost)
