"""Reads recordings of records: JSON lines as the console prints them, or the bytes of a Server-Sent Events stream."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, BinaryIO, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from relay.errors import UsageError
from relay.events import Position
from relay.text import bounded, inert
from relay.wire.event_stream import FIELDS, EventStreamParser, ServerSentEvent

__all__ = ["LINE_LIMIT", "Defect", "RecordedEvent", "lines_of", "read_recording"]

LINE_LIMIT: Final = 1024 * 1024
"""The most bytes of a line of a recording; a record has at most a quarter of that."""

NOTICES: Final = frozenset(
    {"snapshot", "gap", "skipped", "gone", "busy", "bye", "expiring", "denied", "heartbeat", "exchange"}
)
"""Events of a stream that are no records: they have no seq and belong to no job's records."""

LOSSES: Final = frozenset({"gap", "skipped"})
"""Notices that report missing records."""


class RecordedEvent(Struct, frozen=True):
    """One record as a recording has it."""

    job: Annotated[str, Meta(min_length=1)]
    seq: Annotated[int, Meta(ge=1)]
    type: str
    text: str
    level: str = ""
    percent: Any = None

    def __str__(self) -> str:
        return inert(f"{self.job} seq {self.seq}")


class Defect(Struct, frozen=True):
    """A defect of a recording at one place, and its job, if known."""

    what: str
    job: str | None = None


Found: TypeAlias = RecordedEvent | Defect

_read_said = msgspec.json.Decoder(RecordedEvent)
_read_object = msgspec.json.Decoder(dict[str, Any])


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of *file*, each with its line end. Raises UsageError if one is longer than LINE_LIMIT."""
    number = 0
    while line := file.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise UsageError(f"line {number} is longer than {LINE_LIMIT:,} bytes, longer than any of a recording")
        yield line


def read_recording(lines: Iterable[bytes]) -> Iterator[Found]:
    """The records of a recording in order, with the flaws at their places. The content decides which form it has.

    Raises UsageError if it has neither form.
    """
    numbered = ((number, line.rstrip(b"\r\n"), line.endswith(b"\n")) for number, line in enumerate(lines, 1))
    for number, line, whole in numbered:
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            rest = chain([(number, line, whole)], numbered)
            return _read_json(rest) if line.lstrip().startswith(b"{") else _read_stream(_checked(rest))
    return iter(())


_Lines: TypeAlias = Iterator[tuple[int, bytes, bool]]


def _checked(lines: _Lines) -> _Lines:
    """The same *lines*, after a check that the first one can be a line of a stream."""
    number, line, whole = next(lines)
    if line.partition(b":")[0] not in (b"", *FIELDS) or b":" not in line:
        raise UsageError(
            f"line {number} is neither a JSON record nor a line of an SSE stream; record the console with"
            " --log-format json, and a stream with curl -sN"
        )
    return chain([(number, line, whole)], lines)


def _read_json(lines: _Lines) -> Iterator[Found]:
    for number, line, whole in lines:
        if not line.strip():
            continue
        if (said := _said(line)) is not None:
            yield said
        elif (notice := _object(line)).get("type") in NOTICES:
            yield from _loss(notice["type"], line)
        else:
            yield Defect(f"line {number} is {'no record' if whole else 'cut off'}")


def _read_stream(lines: _Lines) -> Iterator[Found]:
    parser, reader = EventStreamParser(), _StreamReader()
    for number, line, _ in lines:
        field, colon, _ = line.partition(b":")
        if field not in FIELDS and (field or not colon) and line:
            yield Defect(f"line {number} is no line of an SSE stream")
        try:
            block = parser.feed_line(line, number)
        except ValueError as error:
            raise UsageError(f"line {number}: {error}") from None
        if block is not None:
            yield from reader.read(block)
    if parser.unfinished.begins:
        # [spec] "once the end of the file is reached, any pending data must be discarded"
        records = [said for data in parser.unfinished.fields[b"data"] if (said := _said(data)) is not None]
        about = f" of {records[0]}" if records else ""
        job = records[0].job if records else None
        begins = parser.unfinished.begins
        yield Defect(f"ends within the block{about} that begins in line {begins}: no reader gets it", job)
        yield from records


class _StreamReader:
    """Reads block after block, and remembers the position that it has reached."""

    def __init__(self) -> None:
        self._position: Position | None = None

    def read(self, block: ServerSentEvent) -> Iterator[Found]:
        ids, events, data, _ = block.fields.values()
        if not (ids or events or data):
            return
        where = f"the block that begins in line {block.begins}"
        records = [said for body in data if (said := _said(body)) is not None]
        if max(len(ids), len(events), len(data)) > 1:
            about = f": no reader gets {', '.join(map(str, records))}" if records else ""
            yield Defect(f"{where} is two run into one{about}", records[0].job if records else None)
            yield from records
            return
        id, event, body = (_text(values) for values in (ids, events, data))
        if body is None:
            yield Defect(f"{where} has no data (id {id or 'missing'}, event {event or 'missing'})")
            return
        if event in NOTICES:
            yield from self._check_id(id, event, where, None, moves=False)
            yield from _loss(event, data[0])
            return
        if not records:
            yield Defect(f"{where} is no record (id {id or 'missing'}, event {event or 'missing'})")
            return
        (said,) = records
        yield from self._check_id(id, str(said), where, said.job, moves=True)
        if event != said.type:
            named = f"is called {event!r}, but its type is {said.type!r}" if event is not None else "has no event"
            yield Defect(f"{said} {inert(named)}", said.job)
        yield said

    def _check_id(self, id: str | None, what: str, where: str, job: str | None, *, moves: bool) -> Iterator[Defect]:
        """A record's id comes after all earlier ones; a notice keeps the position, or moves it forward."""
        position = Position.parse(id) if id is not None else None
        if id is None:
            yield Defect(f"{what} has no id, in {where}", job)
        elif position is None:
            yield Defect(f"{what} has an id that is no position: {id!r}", job)
        else:
            last, self._position = self._position, position
            if last is not None and last.epoch == position.epoch and last.offset + moves > position.offset:
                yield Defect(f"{what} has the id {position}, which is not behind {last}", job)


def _said(body: bytes) -> RecordedEvent | None:
    try:
        return _read_said.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _read_object.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _loss(notice: str, body: bytes) -> Iterator[Defect]:
    if notice in LOSSES:
        yield Defect(
            f"says itself that it missed something: {notice} {inert(bounded(body.decode('ascii', 'replace'), 200))}"
        )


def _text(values: list[bytes]) -> str | None:
    return inert(bounded(values[0].decode("utf-8", "replace"), 200)) if values else None
