"""Finds in the bytes that a sink has written the records that it was given, whatever its format."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, cast

from relay.events import Record

__all__ = ["Unit", "beside", "documents", "lines", "mark_of", "read_back", "shape_of", "units"]

MARK: Final = re.compile(r"mark\d{7}")
"""In the text of each record: letters and digits alone, which no format escapes."""

JOB: Final = re.compile(r"job_check_\d{7}")

# Python's str.splitlines breaks at these, and so does a reader that is not ours.
_LINE_ENDS: Final = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class Unit(NamedTuple):
    """A part of an output that stands for itself: a JSON document, or else a line."""

    line: str = ""
    document: Any = None

    def matches(self, pattern: re.Pattern[str]) -> list[str]:
        """What *pattern* matches in it, each once."""
        return list(dict.fromkeys(pattern.findall(self.text)))

    @property
    def text(self) -> str:
        """The line, or the document as JSON."""
        return self.line if self.document is None else json.dumps(self.document)


def mark_of(offset: int) -> str:
    """The mark of the record at *offset*."""
    return f"mark{offset:07d}"


def documents(data: bytes) -> list[Any] | None:
    """The JSON documents that *data* is a sequence of, the elements of an array each for itself; None if it is none.

    NaN and Infinity pass here, as they do in many readers.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    found: list[Any] = []
    decoder, place = json.JSONDecoder(), 0
    try:
        while place < len(text):
            if text[place].isspace() or text[place] == "\x1e":  # RFC 7464 has it before each document
                place += 1
                continue
            document, place = decoder.raw_decode(text, place)
            found += document if isinstance(document, list) else [document]
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(document, dict) for document in found) else None


def lines(data: bytes) -> list[str]:
    """The lines of *data*, by every character that ends a line for some reader."""
    found = _LINE_ENDS.split(data.decode("utf-8", "replace"))
    return found if found[-1] else found[:-1]


def units(data: bytes) -> list[Unit]:
    """The documents of *data*, or else its lines."""
    found = documents(data)
    if found is None:
        return [Unit(line) for line in lines(data)]
    return [Unit(document=document) for document in found]


def shape_of(data: bytes, records: int) -> str | None:
    """`documents` or `lines`, if *data* has as many of them as there are *records*; None for anything else."""
    found = documents(data)
    if found is not None:
        return "documents" if len(found) == records else None
    return "lines" if len(lines(data)) == records else None


def read_back(data: bytes, wanted: Sequence[Record]) -> list[Record]:
    """Those of *wanted* that are in *data*, in the order in which they occur there, repetitions included.

    A record is known by `job` and `seq` of a JSON object, or by the mark in its text, or by its job's id if no other
    record of that job is wanted.
    """
    parts, known = units(data), _Known(wanted)
    found = list(known.within(parts))
    if found:
        return found
    of_job: dict[str, list[Record]] = {}
    for record in wanted:
        of_job.setdefault(record.job, []).append(record)
    single = {job: records[0] for job, records in of_job.items() if len(records) == 1}
    return [single[job] for part in parts for job in part.matches(JOB) if job in single]


def beside(data: bytes, records: Sequence[Record]) -> list[str]:
    """The parts of *data* that hold none of *records*."""
    known = _Known(records)
    return [part.text for part in units(data) if not any(known.within([part]))]


class _Known:
    """Records by the marks that they have."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._by_id = {(record.job, record.seq): record for record in records}

    @cached_property
    def _by_mark(self) -> dict[str, Record]:
        return {mark: record for record in self._records for mark in MARK.findall(record.json.decode())}

    def within(self, parts: Sequence[Unit]) -> Iterator[Record]:
        """The records that occur in *parts*, in that order, a repetition for each time."""
        last: Record | None = None
        before = ""
        for part in parts:
            for record in self._of(part):
                # One record may take several lines; two lines that are equal are the record twice.
                if part.document is not None or record is not last or part.line == before:
                    yield record
                last = record
            before = part.line

    def _of(self, part: Unit) -> list[Record]:
        records = [self._by_id[key] for key in _ids(part.document) if key in self._by_id]
        return records or [self._by_mark[mark] for mark in part.matches(MARK) if mark in self._by_mark]


def _ids(document: Any) -> Iterator[tuple[str, int]]:
    if isinstance(document, dict):
        table = cast("dict[str, Any]", document)
        job, seq = table.get("job"), table.get("seq")
        if isinstance(job, str) and isinstance(seq, int):
            yield job, seq
            return
        for inner in table.values():
            yield from _ids(inner)
    elif isinstance(document, list):
        for inner in cast("list[object]", document):
            yield from _ids(inner)
