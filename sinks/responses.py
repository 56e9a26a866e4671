"""Records encoded as the events of a response, which clients of OpenAI's Responses API read. No I/O.

A record is a line in the summary of the one reasoning item, and the result is the one message behind it. An event's
`sequence_number` follows from the record alone: STRIDE times its seq, and one more for each further event of it. The
events before the first record, which open the response, have the numbers below STRIDE. So a number names a place in the
journal, and any client resumes from any event, whenever it was sent.

[measured] What the helpers of both official SDKs need: `response.created` first, an item `added` before its deltas, and
the whole output in the response that `response.completed` holds. An event that holds a response replaces all that the
helper of openai-node has collected: none is sent between the first item and the end.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from relay.events import Done, Progress, Record, Terminal
from sinks.answers import ERROR_TYPE, ascii_json, failure_code, fitting, json_line, result_files, result_words

__all__ = ["STRIDE", "ResponseEvents", "ResponseStatus", "summary_of"]

ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "cancelled"]

STRIDE: Final = 16
"""How many events a record has at most; the terminal record of a success has eleven."""

SUMMARY: Final = 20_000
"""Bytes of the summary in one event. With MESSAGE and a head it stays below 64 KiB, which is a client's line buffer."""

MESSAGE: Final = 40_000
"""Bytes of the message in one event: its text, and the address of each file once more."""

REASON: Final = 8_000
"""Bytes of the reason of a failure."""

_ITEM: Final[dict[str, Any]] = {"output_index": 0, "summary_index": 0}
_PART: Final[dict[str, Any]] = {"output_index": 1, "content_index": 0}

_NO_TOKENS: Final[dict[str, Any]] = {
    "input_tokens": 0,
    "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}

_Numbered: TypeAlias = tuple[str, str]
"""The type of an event, and its fields behind `sequence_number` as JSON, without braces."""


class ResponseEvents(Struct, frozen=True, kw_only=True):
    """The events of one job. *created* is in whole seconds since 1970, *model* is the name for the client."""

    job: str
    created: int
    model: str

    def opening(self, after: int = -1) -> bytes:
        """The events before the first record, without those up to the number *after*."""
        events = [
            _event("response.created", {"response": self.response("queued")}),
            _event("response.queued", {"response": self.response("queued")}),
            _event("response.in_progress", {"response": self.response("in_progress")}),
            _event("response.output_item.added", {"output_index": 0, "item": self._reasoning("in_progress")}),
            _event("response.reasoning_summary_part.added", {**self._item, "part": _summary_part("")}),
        ]
        return _blocks(0, events, after)

    def record(self, record: Record, summary: str = "", after: int = -1) -> bytes:
        """The events of *record*, without those up to the number *after*.

        *summary* holds the lines of all records up to a terminal one, as `summary_of` joins them.
        """
        event = record.event
        if isinstance(event, Terminal):
            return self.end(event, record.seq, summary, after)
        percent = event.percent if isinstance(event, Progress) else None
        return _blocks(record.seq * STRIDE, [self._line(event.text, percent)], after)

    def line(self, text: str, number: int, *, percent: int | None = None) -> bytes:
        """A line that no record stands for, such as the notice of missing records."""
        return _blocks(number, [self._line(text, percent)])

    def empty(self, number: int) -> bytes:
        """A delta without text, for a client that ends a stream without events."""
        return _blocks(number, [_event("response.reasoning_summary_text.delta", {**self._item, "delta": ""})])

    def end(self, terminal: Terminal, seq: int, summary: str, after: int = -1) -> bytes:
        """How the job ended with its record *seq*: the end of both items and of the response."""
        part = _summary_part(summary)
        status = "completed" if isinstance(terminal, Done) else "incomplete"
        events = [
            self._line(terminal.text, None),
            _event("response.reasoning_summary_text.done", {**self._item, "text": summary}),
            _event("response.reasoning_summary_part.done", {**self._item, "part": part}),
            _event("response.output_item.done", {"output_index": 0, "item": self._reasoning(status, summary)}),
        ]
        if isinstance(terminal, Done):
            events += self._message_events(terminal)
        name = "response.completed" if isinstance(terminal, Done) else "response.failed"
        events.append(_event(name, {"response": self.ended(terminal, summary)}))
        return _blocks(seq * STRIDE, events, after)

    def error(self, message: str, *, code: str, number: int) -> bytes:
        """The end of a stream whose job goes on. Nested like this, both SDKs raise it; the flat form is an event."""
        about = {"type": ERROR_TYPE, "code": code, "message": f"{message} [{code}] (job {self.job})", "param": None}
        return _blocks(number, [_event("error", {"error": about})])

    def ended(self, terminal: Terminal, summary: str) -> dict[str, Any]:
        """The response of a job that ended with *terminal*."""
        if isinstance(terminal, Done):
            items = [self._reasoning("completed", summary), self._message(terminal)]
            return {**self.response("completed", items, progress=100), "usage": _NO_TOKENS}
        code = failure_code(terminal)
        reason = fitting(terminal.message or terminal.text, REASON)
        error = {"code": code, "message": f"{reason} [{code}] (job {self.job})"}
        status: ResponseStatus = "cancelled" if code == "cancelled" else "failed"
        return self.response(status, [self._reasoning("incomplete", summary)], error=error)

    def running(self, status: ResponseStatus, summary: str, progress: int | None) -> dict[str, Any]:
        """The response of a job that has not ended; *progress* is in percent, None while it is unknown."""
        return self.response(status, [self._reasoning("in_progress", summary)], progress=progress)

    def response(
        self,
        status: ResponseStatus,
        output: Iterable[dict[str, Any]] = (),
        *,
        error: dict[str, str] | None = None,
        progress: int | None = None,
    ) -> dict[str, Any]:
        """The object of the response; `progress` is the relay's own field, and in percent."""
        return {
            "id": f"resp_{self.job}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": True,
            "error": error,
            "incomplete_details": None,
            "metadata": {},
            "model": self.model,
            "output": list(output),
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
            **({"progress": progress} if progress is not None else {}),
        }

    @property
    def _item(self) -> dict[str, Any]:
        return {"item_id": f"rs_{self.job}", **_ITEM}

    def _line(self, text: str, percent: int | None) -> _Numbered:
        """One line of the summary; of all strings of the event, only its text can hold a percent sign."""
        progress = f',"progress":{percent}' if percent is not None else ""
        fields = f'"item_id":"rs_{self.job}","output_index":0,"summary_index":0'
        return "response.reasoning_summary_text.delta", f'{fields},"delta":{json_line(text, percent)}{progress}'

    def _message_events(self, done: Done) -> Iterator[_Numbered]:
        """The life of the message, whose text is one delta: it is bounded, since the last events hold it whole."""
        place, message = {"item_id": f"msg_{self.job}", **_PART}, self._message(done)
        (part,) = message["content"]
        text: dict[str, Any] = {**place, "logprobs": []}
        added: dict[str, Any] = {**message, "status": "in_progress", "content": []}
        yield _event("response.output_item.added", {"output_index": 1, "item": added})
        yield _event("response.content_part.added", {**place, "part": {**part, "text": "", "annotations": []}})
        yield _event("response.output_text.delta", {**text, "delta": part["text"], "progress": 100})
        yield _event("response.output_text.done", {**text, "text": part["text"]})
        yield _event("response.content_part.done", {**place, "part": part})
        yield _event("response.output_item.done", {"output_index": 1, "item": message})

    def _reasoning(self, status: str, summary: str = "") -> dict[str, Any]:
        parts = [_summary_part(summary)] if summary else []
        return {"id": f"rs_{self.job}", "type": "reasoning", "status": status, "summary": parts}

    def _message(self, done: Done) -> dict[str, Any]:
        text, annotations = _result(done, self.job)
        part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
        item = {"id": f"msg_{self.job}", "type": "message", "status": "completed", "role": "assistant"}
        return {**item, "content": [part]}


def summary_of(job: str, texts: Iterable[str], last: str) -> str:
    """A line for each of *texts*. If they are too long for an event, the first ones, a note and the *last* line."""
    end = f"(more lines, which GET /v1/jobs/{job}/events has)\n{last}\n"
    room = SUMMARY - len(ascii_json(end))
    lines: list[str] = []
    for text in texts:
        line = f"{text}\n"
        room -= len(ascii_json(line))
        if room < 0:
            return "".join([*lines, end])
        lines.append(line)
    return "".join(lines)


def _result(done: Done, job: str) -> tuple[str, list[dict[str, Any]]]:
    """The text of the message, each file on a line of its own, and the address of each file as a citation of it.

    A result that is too long for an event ends with a note; its files are whole or left out.
    """
    note = f"(cut: GET /v1/jobs/{job} has the whole result)"
    room = MESSAGE - len(note) - 2
    parts: list[str] = []
    annotations: list[dict[str, Any]] = []
    files, start = result_files(done), 0
    for file in files:
        cited = {"type": "url_citation", "url": file.url, "title": file.kind}
        citation = {**cited, "start_index": start, "end_index": start + len(file.shown)}
        room -= len(ascii_json(file.shown)) + len(ascii_json(citation))
        if room < 0:
            break
        parts.append(file.shown)
        annotations.append(citation)
        start += len(file.shown) + 1
    words = result_words(done)
    kept = fitting(words, max(room, 0)) if len(parts) == len(files) else ""
    cut = len(parts) < len(files) or kept != words
    return "\n".join([*parts, *([kept] if kept else []), *([note] if cut else [])]), annotations


def _summary_part(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _event(name: str, fields: dict[str, Any]) -> _Numbered:
    return name, ascii_json(fields)[1:-1]


def _blocks(number: int, events: Iterable[_Numbered], after: int = -1) -> bytes:
    """A block for each of *events*, which are numbered from *number* on, without those up to the number *after*."""
    return b"".join(
        f'event: {name}\ndata: {{"type":"{name}","sequence_number":{place},{fields}}}\n\n'.encode("ascii")
        for place, (name, fields) in enumerate(events, number)
        if place > after
    )
