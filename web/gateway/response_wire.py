"""The wire of one job's response stream: events of the Responses API in place of records and of notices."""

from collections.abc import Iterator
from typing import Any, Final

from relay import Job, JournalReader, Position, Record
from relay.events import Level
from sinks.responses import STRIDE, ResponseEvents, summary_of
from web.gateway.wire import SHUTTING_DOWN, SIGN_AFTER, missing, raw_exchange
from web.streaming.wire import RETRY

__all__ = ["ResponseWire", "summary_so_far"]

PAGE: Final = 256
"""How many records are read at once; a summary holds a few hundred lines."""


class ResponseWire:
    """See `web.streaming.wire.Wire`. An event's `sequence_number` is the cursor of its client: no block has an id.

    A notice and a sign of life have the last number before the next record: the record before it has no
    event of that number.
    """

    content_type = "text/event-stream"
    renewed = False

    def __init__(
        self,
        job: Job,
        events: ResponseEvents,
        journal: JournalReader,
        level: Level,
        *,
        after: int = -1,
        resumed: Record | None = None,
        sign_after: float = SIGN_AFTER,
    ) -> None:
        """*after*: the number of the last event that the client has. *resumed*: the record of that event, if further
        events of it are for the client.
        """
        self.sign_after = sign_after
        self.name: str = f"responses {job.id} {level} {events.model}"
        self._job = job
        self._events = events
        self._journal = journal
        self._level: Level = level
        self._after = after
        self._resumed = resumed

    def opening(self, position: Position) -> bytes:  # noqa: ARG002
        if self._resumed is not None:
            return self._events.record(self._resumed, self._summary(self._resumed), self._after)
        return self._events.opening(self._after)

    def record(self, record: Record) -> bytes:
        return self._events.record(record, self._summary(record))

    def notice(self, event: str, data: dict[str, Any], position: Position, *, retry: int = RETRY) -> bytes:  # noqa: ARG002
        """A line in brackets, which no record has; for the end of the service, an error."""
        number = self._number(position)
        match event:
            case "gap":
                # The state of the job follows: its end, or a line with the last number before the next record.
                state = self._job.state
                number = min(number, (state.seq if state.ended else state.seq + 1) * STRIDE - (1 if state.ended else 2))
                return self._events.line(f"({missing(data)} not kept any more)", number)
            case "skipped":
                return self._events.line(f"({missing(data)} left out, since this client reads slowly)", number)
            case "snapshot":
                (state,) = data["jobs"]
                return self._state(state)
            case "exchange":
                return self._events.line(raw_exchange(data), number)
            case "denied":
                return self._events.error(f"{data['reason']}; the job goes on", code="access_denied", number=number)
            case "bye":
                message = SHUTTING_DOWN.format(job=self._job.id)
                return self._events.error(message, code="relay_shutting_down", number=number)
            case _:
                return self._events.empty(number)

    def heartbeat(self, position: Position, *, moved: bool) -> bytes:  # noqa: ARG002
        """A comment without a blank line: some clients parse whatever stands before one as JSON."""
        return b":\n"

    def sign(self, latest: Record | None, position: Position) -> bytes:
        """The text of a record that was below the level of the stream, or a delta without text."""
        if latest is not None:
            return self._events.line(latest.event.text, latest.seq * STRIDE)
        return self._events.empty(self._number(position))

    def _number(self, position: Position) -> int:
        """The last number before those of the next record behind *position*."""
        behind = self._journal.read(position.offset, [self._job.id], limit=1)
        seq = behind[0].seq if behind else self._job.state.seq + 1
        return seq * STRIDE - 1

    def _state(self, state: dict[str, Any]) -> bytes:
        """The state of the job in place of records that are not kept; of an ended job, its end."""
        terminal = self._job.state.terminal
        if state["terminal"] is not None and terminal is not None:
            summary = summary_so_far(self._job, self._journal, self._level)
            return self._events.end(terminal, state["seq"], summary, self._after)
        return self._events.line(state["text"], (state["seq"] + 1) * STRIDE - 1, percent=state["percent"])

    def _summary(self, record: Record) -> str:
        return summary_so_far(self._job, self._journal, self._level) if record.terminal else ""


def summary_so_far(job: Job, journal: JournalReader, level: Level) -> str:
    """The lines of *job* at *level*, as far as an event holds them. It reads no more records than these."""
    return summary_of(job.id, _texts(job, journal, level), job.state.text)


def _texts(job: Job, journal: JournalReader, level: Level) -> Iterator[str]:
    after = 0
    while records := journal.read(after, [job.id], limit=PAGE, level=level):
        for record in records:
            yield record.event.text
        after = records[-1].position.offset
