"""The wire of one job's chat stream: chunks in place of records, and chunks or an error object in place of notices."""

from typing import Any, Final

from relay import Job, Position, Record
from relay.text import bounded, inert
from sinks.chat import ChatChunks
from web.streaming.wire import RETRY

__all__ = ["SHUTTING_DOWN", "SIGN_AFTER", "ChatWire", "missing", "raw_exchange"]

SIGN_AFTER: Final = 60.0
"""Seconds: an asynchronous client of LangChain gives up after 120 without a chunk, and counts no comment as one."""

EXCHANGE_LIMIT: Final = 2_000
"""Characters of a raw exchange in a chunk, which holds the line twice, each character as up to six bytes."""

SHUTTING_DOWN: Final = "the relay is shutting down; the job goes on, and GET /v1/jobs/{job}/events follows it"


class ChatWire:
    """See `web.streaming.wire.Wire`. A stream ends with a result or an error: a clean end alone counts as success."""

    content_type = "text/event-stream"
    renewed = False

    def __init__(self, job: Job, chunks: ChatChunks, *, sign_after: float = SIGN_AFTER) -> None:
        self.sign_after = sign_after
        shared = (chunks.job, chunks.model, chunks.reasoning, chunks.usage, chunks.task is not None)
        self.name: str = "chat " + " ".join(map(str, shared))
        self._job = job
        self._chunks = chunks

    def opening(self, position: Position) -> bytes:
        return self._chunks.opening(position)

    def record(self, record: Record) -> bytes:
        return self._chunks.record(record)

    def notice(self, event: str, data: dict[str, Any], position: Position, *, retry: int = RETRY) -> bytes:  # noqa: ARG002
        """A line in brackets, which no record has; for the end of the service, an error object."""
        match event:
            case "gap":
                return self._chunks.line(f"({missing(data)} not kept any more)", position)
            case "skipped":
                return self._chunks.line(f"({missing(data)} left out, since this client reads slowly)", position)
            case "snapshot":
                (state,) = data["jobs"]
                return self._state(state, position)
            case "exchange":
                return self._chunks.line(raw_exchange(data), position)
            case "denied":
                message = f"{data['reason']}; the job goes on"
                return self._chunks.error(message, code="access_denied", position=position)
            case "bye":
                message = SHUTTING_DOWN.format(job=self._job.id)
                return self._chunks.error(message, code="relay_shutting_down", position=position)
            case _:
                return self._chunks.empty(position)

    def heartbeat(self, position: Position, *, moved: bool) -> bytes:  # noqa: ARG002
        """A comment without a blank line: some clients parse whatever stands before one as JSON."""
        return b":\n"

    def sign(self, latest: Record | None, position: Position) -> bytes:
        """The text of a record that was below the level of the stream, or a chunk without text."""
        return self._chunks.line(latest.event.text, position) if latest is not None else self._chunks.empty(position)

    def _state(self, state: dict[str, Any], position: Position) -> bytes:
        """The state of the job in place of records that are not kept; of a job that had ended by then, its end."""
        terminal = self._job.state.terminal
        if state["terminal"] is not None and terminal is not None:
            return self._chunks.end(terminal, position)
        return self._chunks.line(state["text"], position, percent=state["percent"])


def missing(data: dict[str, Any]) -> str:
    """How many lines are missing, and a verb, as a `gap` or `skipped` notice says it."""
    missed = data.get("missed")
    if missed is None:
        return "earlier lines are"
    return "1 line is" if missed == 1 else f"{missed:,} lines are"


def raw_exchange(data: dict[str, Any]) -> str:
    """A raw request and its answer as one line."""
    status = data["status"] if data["status"] is not None else "no answer"
    words = (
        f"{data['method']} {data['url']}: {status}, {data['seconds']:.2f} s; {data['request']} -> {data['response']}"
    )
    return inert(bounded(words, EXCHANGE_LIMIT))
