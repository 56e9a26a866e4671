"""Records as a Server-Sent Events stream. No web framework in here: bytes go out, and nothing comes in.

The profile is what eleven client stacks were seen to read without loss: line feeds only, no byte order mark, every
block with an id, an event and exactly one line of ASCII data, heartbeats of a bare comment line without a blank one,
and `retry` only inside a block that carries data.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from relay.events import Level, Record, at_least

__all__ = ["HEARTBEAT", "SseSink", "frame", "line", "notice_frame", "notice_line"]

HEARTBEAT: Final = b":\n"
"""[spec] a line that starts with a colon is ignored; without a blank line after it no client dispatches anything."""

ReadJournal = Callable[[int], Sequence[Record]]


def frame(record: Record) -> bytes:
    """One record as one block. Its id is the record's position, so one cursor serves a stream of one job or of many."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(record.position).encode(), record.event.type.encode(), record.json)


def notice_frame(event: str, data: dict[str, Any], position: object, *, retry: int | None = None) -> bytes:
    """A block that is no record (`snapshot`, `gap`, `bye`): it carries no seq, and leaves the cursor at *position*.

    *retry* tells the client how many milliseconds to wait before it comes back.
    """
    body = json.dumps(data, separators=(",", ":"))
    pause = f"retry: {retry}\n" if retry is not None else ""
    return f"{pause}id: {position}\nevent: {event}\ndata: {body}\n\n".encode("ascii")


def line(record: Record) -> bytes:
    """One record as one line of newline-delimited JSON."""
    return record.json + b"\n"


def notice_line(event: str, data: dict[str, Any], position: object) -> bytes:
    """What `notice_frame` says, as one line of newline-delimited JSON."""
    return json.dumps({"type": event, "position": str(position), **data}, separators=(",", ":")).encode("ascii") + b"\n"


class SseSink:
    """One client's stream: a cursor into the journal.

    As a sink it only learns that there is news. The records themselves are read behind the cursor when the client can
    take them, so replay, the live tail, a slow reader and a resumed one are the same thing, and a stalled client costs
    no memory. A terminal record is sent whatever *level* says: it ends the story.
    """

    cursor: int
    """The offset of the last record taken, or passed over."""

    def __init__(
        self,
        read: ReadJournal,
        wake: Callable[[], None],
        *,
        after: int = 0,
        level: Level = "debug",
        until: Iterable[str] | None = None,
        encode: Callable[[Record], bytes] = frame,
    ) -> None:
        self._read = read
        self._wake = wake
        self._level: Level = level
        self._encode = encode
        self.restart(after=after, until=until)

    def restart(self, *, after: int, until: Iterable[str] | None) -> None:
        """Go on from another place: what lay between is no longer to be had."""
        self.cursor = after
        self._until: set[str] | None = None if until is None else set(until)

    def __call__(self, _: Record) -> None:
        self._wake()

    @property
    def ended(self) -> bool:
        """Whether every job that the stream was opened *until* the end of has had its terminal record taken."""
        return self._until is not None and not self._until

    def take(self) -> bytes:
        """The next page of blocks, ready to be written at once; empty at the head of the journal."""
        while records := self._read(self.cursor):
            self.cursor = records[-1].position.offset
            if self._until:
                self._until.difference_update(record.job for record in records if record.terminal)
            wanted = [
                self._encode(record) for record in records if record.terminal or at_least(record.event.level, self._level)
            ]
            if wanted:
                return b"".join(wanted)
        return b""
