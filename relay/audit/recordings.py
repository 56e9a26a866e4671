"""Recordings read back: JSON lines as the console prints them, or the bytes of a Server-Sent Events stream."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, BinaryIO, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from relay.blocks import FIELDS, Block, BlockReader
from relay.errors import UsageError
from relay.events import Position
from relay.text import bounded, inert

__all__ = ["LINE_LIMIT", "Flaw", "Said", "lines_of", "read_recording"]

LINE_LIMIT: Final = 1024 * 1024
"""The most bytes a line of a recording has; a record has no more than a quarter of that."""

NOTICES: Final = frozenset({"snapshot", "gap", "skipped", "gone", "busy", "bye", "exchange"})
"""What a stream says besides records. It has no seq, and is no part of a job's story."""

LOSSES: Final = frozenset({"gap", "skipped"})
"""Notices by which a stream says that something is missing."""


class Said(Struct, frozen=True):
    """What a recording says of one record."""

    job: Annotated[str, Meta(min_length=1)]
    seq: Annotated[int, Meta(ge=1)]
    type: str
    text: str

    def __str__(self) -> str:
        return inert(f"{self.job} seq {self.seq}")


class Flaw(Struct, frozen=True):
    """What is wrong with a recording at one place, and the job it is about, where that can be known."""

    what: str
    job: str | None = None


Found: TypeAlias = Said | Flaw

_read_said = msgspec.json.Decoder(Said)
_read_object = msgspec.json.Decoder(dict[str, Any])


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of *file*, each with its end. Raises UsageError where one is longer than LINE_LIMIT."""
    number = 0
    while line := file.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise UsageError(f"line {number} is longer than {LINE_LIMIT:,} bytes, which no recording's is")
        yield line


def read_recording(lines: Iterable[bytes]) -> Iterator[Found]:
    """What the lines of a recording say, in order, with the flaws where they are. Its form is told by its content.

    Raises UsageError where it has neither form.
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
    """The same *lines*, after a look at the first: whether it can be one of a stream."""
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
            yield Flaw(f"line {number} is {'no record' if whole else 'cut off'}")


def _read_stream(lines: _Lines) -> Iterator[Found]:
    blocks, reader = BlockReader(), _StreamReader()
    for number, line, _ in lines:
        field, colon, _ = line.partition(b":")
        if field not in FIELDS and (field or not colon) and line:
            yield Flaw(f"line {number} is no line of an SSE stream")
        try:
            block = blocks.take(line, number)
        except ValueError as error:
            raise UsageError(f"line {number}: {error}") from None
        if block is not None:
            yield from reader.read(block)
    if blocks.block.begins:
        # [spec] "once the end of the file is reached, any pending data must be discarded"
        records = [said for data in blocks.block.fields[b"data"] if (said := _said(data)) is not None]
        about = f" of {records[0]}" if records else ""
        job = records[0].job if records else None
        begins = blocks.block.begins
        yield Flaw(f"ends within the block{about} that begins in line {begins}: no reader gets it", job)
        yield from records


class _StreamReader:
    """Reads block after block; remembers the position it has come to."""

    def __init__(self) -> None:
        self._position: Position | None = None

    def read(self, block: Block) -> Iterator[Found]:
        ids, events, data, _ = block.fields.values()
        if not (ids or events or data):
            return
        where = f"the block that begins in line {block.begins}"
        records = [said for body in data if (said := _said(body)) is not None]
        if max(len(ids), len(events), len(data)) > 1:
            about = f": no reader gets {', '.join(map(str, records))}" if records else ""
            yield Flaw(f"{where} is two run into one{about}", records[0].job if records else None)
            yield from records
            return
        id, event, body = (_text(values) for values in (ids, events, data))
        if body is None:
            yield Flaw(f"{where} has no data (id {id or 'missing'}, event {event or 'missing'})")
            return
        if event in NOTICES:
            yield from self._check_id(id, event, where, None, moves=False)
            yield from _loss(event, data[0])
            return
        if not records:
            yield Flaw(f"{where} is no record (id {id or 'missing'}, event {event or 'missing'})")
            return
        (said,) = records
        yield from self._check_id(id, str(said), where, said.job, moves=True)
        if event != said.type:
            named = f"is called {event!r}, but its type is {said.type!r}" if event is not None else "has no event"
            yield Flaw(f"{said} {inert(named)}", said.job)
        yield said

    def _check_id(self, id: str | None, what: str, where: str, job: str | None, *, moves: bool) -> Iterator[Flaw]:
        """A record's id is behind all before it; a notice leaves the reader where it is, or moves it on."""
        position = Position.parse(id) if id is not None else None
        if id is None:
            yield Flaw(f"{what} has no id, in {where}", job)
        elif position is None:
            yield Flaw(f"{what} has an id that is no position: {id!r}", job)
        else:
            last, self._position = self._position, position
            if last is not None and last.epoch == position.epoch and last.offset + moves > position.offset:
                yield Flaw(f"{what} has the id {position}, which is not behind {last}", job)


def _said(body: bytes) -> Said | None:
    try:
        return _read_said.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _read_object.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _loss(notice: str, body: bytes) -> Iterator[Flaw]:
    if notice in LOSSES:
        yield Flaw(
            f"says itself that it missed something: {notice} {inert(bounded(body.decode('ascii', 'replace'), 200))}"
        )


def _text(values: list[bytes]) -> str | None:
    return inert(bounded(values[0].decode("utf-8", "replace"), 200)) if values else None
