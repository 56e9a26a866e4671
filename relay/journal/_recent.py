"""The newest records of a journal on disk, kept in memory as well: most readers never wait for SQL."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, cast

from relay.events import Record
from relay.journal._index import size_of

__all__ = ["Recent"]

OVERHEAD: Final = 640
"""Bytes that a record takes in memory beyond those in the file: the record, its event, its place (CPython 3.11)."""

CUT_AT: Final = 1_024
"""How many empty places are held on to, if there are as many records: a move of those costs 8 bytes for each."""

_GONE = cast(Record, None)


class Recent:
    """The newest records behind the offset *after*, of all jobs in one list, at most *most* and *most_bytes* of them.

    There is a place for each offset, so a record is found by that, and the index of the file says whose it is: nothing
    is kept for each job, where a thousand jobs would need a thousand places in the processor's caches.
    """

    __slots__ = ("_bytes", "_first", "_holes", "_most", "_most_bytes", "_places", "_start")

    def __init__(self, most: int, most_bytes: int, after: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._first = after + 1
        self._places: list[Record] = []
        self._start = 0
        self._holes = False
        self._bytes = 0

    @property
    def trimmed_to(self) -> int:
        """The offset behind which every record that can be read is here."""
        return self._first + self._start - 1

    def load(self, records: Iterable[Record]) -> None:
        """Have the records of the file, in order; those that cannot be read are missing among them."""
        for record in records:
            missing = record.position.offset - self._first - len(self._places)
            if missing:
                self._holes = True
                self._places += [_GONE] * missing
            self.put([record], size_of(record.json))

    def put(self, records: Sequence[Record], size: int) -> None:
        """Have *records*, which come next, and take *size* bytes of the file; leave the oldest out for them."""
        places = self._places
        places += records
        self._bytes += size + OVERHEAD * len(records)
        surplus = len(places) - self._start - self._most
        if surplus > 0:
            self.drop(self.trimmed_to + surplus)
        while self._bytes > self._most_bytes and len(places) - self._start > 1:
            self.drop(self.trimmed_to + 1)

    def drop(self, up_to: int) -> None:
        """Leave out the records up to the offset *up_to*."""
        places, start = self._places, max(self._start, min(up_to + 1 - self._first, len(self._places)))
        for place in range(self._start, start):
            if (record := places[place]) is not _GONE:
                self._bytes -= size_of(record.json) + OVERHEAD
                places[place] = _GONE
        if start >= CUT_AT or 2 * start >= len(places):
            del places[:start]
            self._first += start
            start = 0
        self._start = start

    def behind(self, after: int, limit: int) -> list[Record]:
        """The oldest *limit* records behind *after*, which is at `trimmed_to` or behind it."""
        start = after + 1 - self._first
        if not self._holes:
            return self._places[start : start + limit]
        return list(islice(filter(None, islice(self._places, start, None)), limit))

    def at(self, offsets: Iterable[int], limit: int) -> list[Record]:
        """The first *limit* records at these *offsets*, which are all behind `trimmed_to`."""
        places, first = self._places, self._first
        if not self._holes:
            return [places[offset - first] for offset in islice(offsets, limit)]
        return list(islice(filter(None, (places[offset - first] for offset in offsets)), limit))
