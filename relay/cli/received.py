"""A record as another relay sends it: read for printing, in the words it came with, and trusted with nothing."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from relay.events import TERMINALS, Level
from relay.text import LINE_LIMIT, bounded, inert
from relay.wire.record_json import SCHEMA_VERSION, ascii_json

__all__ = ["TERMINAL", "ReceivedRecord", "Words", "read_received"]

TERMINAL: Final = frozenset(str(kind.__struct_config__.tag) for kind in TERMINALS)

_LARGEST: Final = 2**53


class Words(Struct, frozen=True):
    """What happened, as far as it is printed: a relay of another version may know events that this one does not."""

    type: str
    level: Level
    text: str


class ReceivedRecord(Struct, frozen=True):
    """One record of a stream; *json* is the very bytes it came in, as long as these are printing ASCII."""

    job: str
    seq: int
    at: datetime
    event: Words
    json: bytes
    percent: int | None

    @property
    def terminal(self) -> bool:
        """Whether this is the last record of its job."""
        return self.event.type in TERMINAL


class _Wire(Struct):
    v: int
    job: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,128}\Z")]
    seq: Annotated[int, Meta(ge=1, le=_LARGEST)]
    at: Annotated[datetime, Meta(tz=True)]
    type: Annotated[str, Meta(pattern=r"\A[a-z][a-z-]{0,63}\Z")]
    level: Level
    text: str
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None


_read_wire = msgspec.json.Decoder(_Wire)


def read_received(body: bytes) -> ReceivedRecord:
    """The record that *body* is. Its text is made inert once more: the sender may be no relay at all.

    Raises ValueError where it is no record that can be printed.
    """
    try:
        wire = _read_wire.decode(body)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    if wire.v != SCHEMA_VERSION:
        raise ValueError(f"its schema version is {wire.v}, and this relay reads {SCHEMA_VERSION}")
    if not 1970 < wire.at.year < 9999:
        raise ValueError("it is of no time that a clock shows")
    words = Words(wire.type, wire.level, bounded(inert(wire.text), LINE_LIMIT))
    return ReceivedRecord(wire.job, wire.seq, wire.at, words, _printing(body), wire.percent)


def _printing(body: bytes) -> bytes:
    """*body* as it is, or the same JSON in printing ASCII: white space between its parts may move a cursor too."""
    if body.isascii() and body.decode().isprintable():
        return body
    return ascii_json(msgspec.json.format(body, indent=-1))
