"""A parser of event streams (WHATWG HTML, 9.2): from bytes to lines, and from lines to events. No I/O."""

import re
from typing import Final

__all__ = ["BLOCK_LIMIT", "FIELDS", "EventStreamParser", "ServerSentEvent"]

BLOCK_LIMIT: Final = 1024 * 1024
"""The most bytes of one block; the longest block that a relay sends has some 256 KiB."""

FIELDS: Final = (b"id", b"event", b"data", b"retry")

_MARK: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class ServerSentEvent:
    """One block of an event stream: the values of each field, in order. *begins* is the number of its first line.

    The properties are the values that an EventSource derives ([spec] HTML, 9.2.6); *fields* holds all of them.
    """

    __slots__ = ("begins", "fields", "size")

    def __init__(self) -> None:
        self.begins: int = 0
        self.fields: dict[bytes, list[bytes]] = {field: [] for field in FIELDS}
        self.size: int = 0

    @property
    def event(self) -> str:
        """The event's name; `message` without an event field."""
        return b"".join(self.fields[b"event"][-1:]).decode("utf-8", "replace") or "message"

    @property
    def data(self) -> bytes:
        """Its lines of data, as one text."""
        return b"\n".join(self.fields[b"data"])

    @property
    def is_event(self) -> bool:
        """Whether an EventSource dispatches it. [spec] One empty line of data is enough."""
        return bool(self.fields[b"data"])

    @property
    def id(self) -> str | None:
        """The client's last event id after this block, if the block has an id."""
        values = [value for value in self.fields[b"id"] if b"\0" not in value]
        return values[-1].decode("utf-8", "replace") if values else None

    @property
    def retry(self) -> int | None:
        """The milliseconds to wait before a reconnection, if the block names them. Never more than nine digits."""
        values = [int(value) for value in self.fields[b"retry"] if value.isdigit() and len(value) <= 9]
        return values[-1] if values else None


class EventStreamParser:
    """Parses a stream from its bytes (`feed`), or from its lines (`feed_line`)."""

    def __init__(self) -> None:
        self.unfinished: ServerSentEvent = ServerSentEvent()
        """The block that has not ended yet. [spec] At the end of the stream it is discarded."""
        self._rest = bytearray()
        self._begun = False
        self._ended_with_cr = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The blocks that *data* ends; it continues the data of earlier calls.

        Raises ValueError if a block is longer than BLOCK_LIMIT.
        """
        if data and self._ended_with_cr:
            # [spec] CR LF ends one line, and so does a CR alone: the line was read before it was known which.
            data = data.removeprefix(b"\n")
            self._ended_with_cr = False
        if not data:
            return []
        self._ended_with_cr = data.endswith(b"\r")
        first, *others = _LINE_END.split(data)
        self._rest += first
        blocks: list[ServerSentEvent] = []
        for line in others:
            if (block := self.feed_line(self._first(bytes(self._rest)))) is not None:
                blocks.append(block)
            self._rest = bytearray(line)
        self._check(len(self._rest))
        return blocks

    def feed_line(self, line: bytes, number: int = 0) -> ServerSentEvent | None:
        """The block that *line* ends, if any; *line* is without its line end, *number* is its number.

        Comments and unknown fields are ignored. Raises ValueError if the block is longer than BLOCK_LIMIT.
        """
        if not line:
            ended, self.unfinished = self.unfinished, ServerSentEvent()
            return ended if ended.size else None
        field, _, value = line.partition(b":")
        if field in FIELDS:
            self.unfinished.begins = self.unfinished.begins or number
            self.unfinished.fields[field].append(value.removeprefix(b" "))
            self._check(len(line) + 1)
            self.unfinished.size += len(line) + 1
        return None

    def _first(self, line: bytes) -> bytes:
        """*line* without the byte order mark that the first one may have."""
        begun, self._begun = self._begun, True
        return line if begun else line.removeprefix(_MARK)

    def _check(self, more: int) -> None:
        if self.unfinished.size + more > BLOCK_LIMIT:
            raise ValueError(f"a block is longer than {BLOCK_LIMIT:,} bytes, longer than any that a relay sends")
