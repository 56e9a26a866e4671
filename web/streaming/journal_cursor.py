"""A reader's place in the journal: the next page behind it, for a fast reader and for a slow one. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from relay import Record
from relay.queue import thinned
from sinks.sse import PAGE_BYTES, Pages, frame

__all__ = ["THIN_OVER", "JournalCursor"]

THIN_OVER: Final = 64
"""A page of more records than this is thinned out for a slow client."""

ReadJournal = Callable[[int], Sequence[Record]]
"""Returns the records behind an offset that the client is to receive, oldest first; none at the end of the journal."""


class JournalCursor:
    """One client's place in the journal, from which records are read as the client can receive them.

    Replay, the live tail, a slow reader and a resumed one are therefore the same code, and a stalled client costs no
    memory. The cursor does no waiting: its owner reads a page when there is news.
    """

    offset: int
    """The offset of the last record that was read, or passed over."""

    def __init__(
        self,
        read: ReadJournal,
        *,
        head: Callable[[], int] = int,
        encode: Callable[[Sequence[Record]], bytes] | None = None,
        caught_up: bool = False,
    ) -> None:
        """*head* returns the newest offset of the journal, to which the cursor advances once *read* returns nothing.

        *encode* encodes a page of records, as SSE blocks by default. *caught_up*: the client was up to date before.
        """
        self._read = read
        self._head = head
        self._encode = encode or Pages(frame)
        self._caught_up = caught_up
        self.skipped: int = 0
        self.move_to(0, awaiting_end=None)

    def move_to(self, offset: int, *, awaiting_end: Iterable[str] | None) -> None:
        """Continue behind *offset*. *awaiting_end*: the jobs whose end the stream awaits; None for no end."""
        self.offset = offset
        self._awaiting_end: set[str] | None = None if awaiting_end is None else set(awaiting_end)

    @property
    def awaiting_end(self) -> frozenset[str] | None:
        """The jobs whose terminal record has not been read yet; None for a stream without end."""
        return None if self._awaiting_end is None else frozenset(self._awaiting_end)

    @property
    def ended(self) -> bool:
        """Whether the terminal record of every job of the stream has been read."""
        return self._awaiting_end is not None and not self._awaiting_end

    def next_page(self, *, slow: bool = False) -> bytes:
        """The next page, encoded, to be written at once; empty at the end of the journal.

        A long page is thinned out (see `thinned`) for a client that is *slow* and was up to date once; *skipped* is the
        number of records that were left out.
        """
        self.skipped = 0
        records = self._read_page()
        if not records:
            self._caught_up = True
            self.offset = max(self.offset, self._head())
            return b""
        self.offset = records[-1].position.offset
        if self._awaiting_end:
            self._awaiting_end.difference_update(record.job for record in records if record.terminal)
        if slow and self._caught_up and len(records) > THIN_OVER:
            self.skipped = len(records) - len(records := thinned(records))
        return self._encode(records)

    def _read_page(self) -> Sequence[Record]:
        """The next records, at most PAGE_BYTES of them, but at least one."""
        records = self._read(self.offset)
        size = 0
        for number, record in enumerate(records):
            size += len(record.json)
            if size > PAGE_BYTES and number:
                return records[:number]
        return records
