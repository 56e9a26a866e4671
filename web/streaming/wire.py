"""The formats of a stream on the wire."""

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from relay import Position, Record
from sinks.sse import HEARTBEAT, frame, line, notice_frame, notice_line

__all__ = ["NDJSON", "RETRY", "SSE", "RecordWire", "Wire"]

RETRY: Final = 2_000
"""Milliseconds a client waits before it reconnects. A browser's default is about 3 s; 0 would cause storms."""


class Wire(Protocol):
    """How the records and the notices of a stream are encoded."""

    @property
    def name(self) -> str:
        """Equal for two wires only if they encode every record of a stream alike: their readers share the bytes."""
        ...

    @property
    def content_type(self) -> str: ...

    @property
    def renewed(self) -> bool:
        """Whether a stream may be ended for its age, because its client reconnects by itself."""
        ...

    @property
    def sign_after(self) -> float:
        """The most seconds without a block that the client counts as news; infinite if a comment is enough."""
        ...

    def opening(self, position: Position) -> bytes:
        """The first bytes of a stream that starts at *position*, so that its headers are sent at once."""
        ...

    def record(self, record: Record, /) -> bytes:
        """*record*, as one block or several; the last one sets the client's cursor."""
        ...

    def notice(self, event: str, data: dict[str, Any], position: Position, *, retry: int = RETRY) -> bytes:
        """A notice that sets the client's cursor to *position* and, if the format can, the delay of a reconnection."""
        ...

    def heartbeat(self, position: Position, *, moved: bool) -> bytes:
        """A comment; if the cursor has *moved* over records that are not for the client, or if the format has no
        comments, a notice with the position.
        """
        ...

    def sign(self, latest: Record | None, position: Position) -> bytes:
        """A block that shows the client that its job is alive; *latest* is the newest record that was not for it."""
        ...


class RecordWire(Struct, frozen=True):
    """A wire of whole records: one block each."""

    name: str
    _opening: bytes
    record: Callable[[Record], bytes]
    _notice: Callable[..., bytes]
    _comment: bytes
    _has_retry: bool

    @property
    def content_type(self) -> str:
        return self.name

    @property
    def renewed(self) -> bool:
        return True

    @property
    def sign_after(self) -> float:
        return math.inf

    def opening(self, position: Position) -> bytes:  # noqa: ARG002
        return self._opening

    def notice(self, event: str, data: dict[str, Any], position: object, *, retry: int = RETRY) -> bytes:
        """See `Wire.notice`."""
        return self._notice(event, data, position, **({"retry": retry} if self._has_retry else {}))

    def heartbeat(self, position: Position, *, moved: bool) -> bytes:
        """See `Wire.heartbeat`."""
        return self._comment if self._comment and not moved else self.notice("heartbeat", {}, position)

    def sign(self, latest: Record | None, position: Position) -> bytes:  # noqa: ARG002
        """See `Wire.sign`."""
        return self.heartbeat(position, moved=True)


SSE: Final = RecordWire("text/event-stream", HEARTBEAT, frame, notice_frame, HEARTBEAT, True)
NDJSON: Final = RecordWire("application/x-ndjson", b"", line, notice_line, b"", False)
