"""What a stream may look like on the wire, and which of them a client asks for."""

import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp.web import Request
from msgspec import Struct

from relay.events import LEVELS, Level, Record
from sinks.sse import HEARTBEAT, frame, line, notice_frame, notice_line
from web.problems import RequestError

__all__ = ["JSON", "NDJSON", "SSE", "Wire", "asked_for_sse", "come_back", "level_asked", "wire_asked"]

RETRY: Final = 2_000
"""Milliseconds a client waits before it comes back. A browser's own default is about 3 s, and never 0: that storms."""

JSON: Final = "application/json"


class Wire(Struct, frozen=True):
    """How records and notices are put on the wire."""

    content_type: str
    heartbeat: bytes
    record: Callable[[Record], bytes]
    _notice: Callable[..., bytes]
    _tells_when: bool

    def notice(self, event: str, data: dict[str, Any], position: object, *, retry: int = RETRY) -> bytes:
        """A notice that leaves the client's cursor at *position* and, where it can, says when to come back."""
        return self._notice(event, data, position, **({"retry": retry} if self._tells_when else {}))


SSE: Final = Wire("text/event-stream", HEARTBEAT, frame, notice_frame, True)
NDJSON: Final = Wire("application/x-ndjson", b"\n", line, notice_line, False)


def wire_asked(request: Request) -> Wire | None:
    """SSE, unless the client asks for JSON lines and not for SSE; None for the state as JSON, which is no stream.

    EventSource asks for `text/event-stream`, curl for anything.
    """
    accepted = _accepted(request)
    if accepted & {"text/event-stream", "text/*"}:
        return SSE
    if "application/x-ndjson" in accepted:
        return NDJSON
    if "*/*" in accepted:
        return SSE
    if accepted & {JSON, "application/*"}:
        return None
    raise RequestError(
        HTTPStatus.NOT_ACCEPTABLE,
        "a stream is text/event-stream or application/x-ndjson; application/json gets the state once",
    )


def asked_for_sse(request: Request) -> bool:
    """Whether the client names SSE, as every EventSource does: it gives up for good on any status but 200."""
    return "text/event-stream" in _accepted(request)


def level_asked(request: Request) -> Level:
    """The level of `?level=`; everything by default. Raises RequestError for what is no level."""
    asked = request.query.get("level", "debug")
    for level in LEVELS:
        if level == asked:
            return level
    raise RequestError(HTTPStatus.BAD_REQUEST, f"level is one of {', '.join(LEVELS)}")


def come_back() -> int:
    """Milliseconds until a client that was turned away comes back: not all at the same moment."""
    return RETRY + secrets.randbelow(4 * RETRY)


def _accepted(request: Request) -> set[str]:
    return {part.split(";")[0].strip().lower() for part in request.headers.get("Accept", "*/*").split(",")}
