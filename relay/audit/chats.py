"""Recordings of chat streams (`/v1/chat/completions`), compared with recordings of records.

A chat has the text of each record of its level, and neither `seq` nor type. It may also have lines of a lower level,
as signs of life, in their place in the order.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from relay.audit.recordings import RecordedEvent
from relay.errors import UsageError
from relay.events import LEVELS, TERMINALS
from relay.text import bounded, inert
from relay.wire.event_stream import EventStreamParser, ServerSentEvent

__all__ = ["ChatLine", "ChatRecording", "compare_chat", "read_chat", "sniff_chat"]

LOOK_AHEAD: Final = 1_000
"""How many lines further on a missing line is looked for."""

LINES_LIMIT: Final = 200_000
QUOTE_LIMIT: Final = 200

_MARK: Final = b'"object":"chat.completion.chunk"'
_LOSS: Final = re.compile(
    r"\((?:[\d,]+ lines? (?:is|are)|earlier lines are) (?:not kept any more|left out, since this client reads slowly)\)"
)
_TERMINAL: Final = frozenset(str(kind.__struct_config__.tag) for kind in TERMINALS)
_read = msgspec.json.Decoder(dict[str, Any])


class ChatLine(Struct, frozen=True):
    """One line of a chat: its text, and its percentage if it has one."""

    text: str
    percent: int | None = None


class ChatRecording(Struct):
    """What a recording holds about one job. *late*: it begins behind the job's first record.

    *end* is `stop`, or the code of the error object, and None if the recording has no end.
    """

    name: str
    job: str
    level: str = "info"
    late: bool = False
    lines: list[ChatLine] = []
    defects: list[str] = []
    end: str | None = None

    def as_records(self) -> list[RecordedEvent]:
        """The lines as records, for a comparison with another chat of the same level."""
        last = len(self.lines)
        ended = "log" if self.end is None else "done" if self.end == "stop" else "failed"
        return [
            RecordedEvent(self.job, number, ended if number == last else "log", line.text, self.level, line.percent)
            for number, line in enumerate(self.lines, 1)
        ]


def sniff_chat(lines: Iterable[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether *lines* are those of a chat stream, which their first line of data says; and the same lines."""
    source, seen = iter(lines), list[bytes]()
    for line in source:
        seen.append(line)
        if line.strip() and not line.startswith(b":"):
            return line.startswith(b"data:") and _MARK in line, chain(seen, source)
    return False, chain(seen, source)


def read_chat(name: str, lines: Iterable[bytes]) -> ChatRecording:
    """The chat in *lines*; a client that came back may have added further streams of the same job.

    Raises UsageError for a recording of several jobs, and for one that is too long.
    """
    parser, chat = EventStreamParser(), ChatRecording(name, "")
    reader = _Reader(chat)
    for number, line in enumerate(lines, 1):
        try:
            block = parser.feed_line(line.rstrip(b"\r\n"), number)
        except ValueError as error:
            raise UsageError(f"{name}: line {number}: {error}") from None
        if block is not None:
            reader.read(block)
    if not chat.job:
        raise UsageError(
            f"{name} holds no first chunk of a chat, which names the job; record the stream from its start"
        )
    if parser.unfinished.begins:
        chat.defects.append(f"ends within the block that begins in line {parser.unfinished.begins}: no reader gets it")
    elif not reader.over:
        chat.defects.append("ends without [DONE]")
    return chat


class _Reader:
    """Reads block after block into *chat*."""

    def __init__(self, chat: ChatRecording) -> None:
        self.over = False
        self._chat = chat
        self._within = False  # a record of several blocks has begun: its other blocks are its result or its error

    def read(self, block: ServerSentEvent) -> None:
        if not block.is_event:
            return
        where = f"the block that begins in line {block.begins}"
        if len(block.fields[b"data"]) > 1 or block.fields[b"event"]:
            self._chat.defects.append(
                f"{where} is no chunk: it has {'an event' if block.fields[b'event'] else 'two lines of data'}"
            )
            return
        if block.data == b"[DONE]":
            self.over, self._within = True, False
            return
        try:
            chunk = _read.decode(block.data)
            self._read_chunk(chunk)
        except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
            self._chat.defects.append(f"{where} is no chunk of a chat")
        else:
            self._within = block.id is None

    def _read_chunk(self, chunk: dict[str, Any]) -> None:
        chat = self._chat
        if "error" in chunk:
            chat.end = str(chunk["error"]["code"])
            return
        for choice in cast("list[dict[str, Any]]", chunk["choices"]):
            delta: dict[str, Any] = choice["delta"]
            if "role" in delta:
                self._open(delta)
            elif not self._within and (text := _text(delta)) is not None:
                self._add(text, chunk.get("progress"))
            if choice["finish_reason"] is not None:
                chat.end = str(choice["finish_reason"])

    def _open(self, delta: dict[str, Any]) -> None:
        chat, job = self._chat, str(delta["job"])
        if chat.job not in ("", job):
            raise UsageError(f"{chat.name} holds chats of {inert(chat.job)} and {inert(job)}; record one chat a file")
        if not chat.job:
            epoch, _, offset = str(delta["position"]).rpartition("-")
            chat.late = offset != "0" or epoch == "unknown"
        chat.job, chat.level, self.over = job, str(delta.get("level", "info")), False
        if chat.level not in LEVELS:
            raise UsageError(
                f"{chat.name} is a chat of the level {inert(chat.level)!r}, which this version does not know"
            )

    def _add(self, text: str, percent: Any) -> None:
        chat, line = self._chat, text.removesuffix("\n")
        if _LOSS.fullmatch(line):
            chat.defects.append(f"says itself that it missed something: {line}")
        elif len(chat.lines) >= LINES_LIMIT:
            raise UsageError(f"{chat.name} has more than {LINES_LIMIT:,} lines; compare a shorter recording")
        else:
            chat.lines.append(ChatLine(line, percent if isinstance(percent, int) else None))


def compare_chat(
    chat: ChatRecording, name: str, records: Sequence[RecordedEvent], *, quiet: bool = False
) -> tuple[list[str], int]:
    """What differs between *chat* and the *records* of its job in the recording called *name*, a line each; and how
    many records both have. *quiet*: that recording holds no record below `info`, which signs of life may show.
    """
    comparison = _Comparison(chat, name, records, quiet)
    comparison.run()
    return comparison.findings, comparison.same


class _Comparison:
    def __init__(self, chat: ChatRecording, name: str, records: Sequence[RecordedEvent], quiet: bool) -> None:
        self.findings: list[str] = [f"{chat.name}: {defect}" for defect in chat.defects]
        self.same = 0
        self._chat = chat
        self._name = name
        self._records = records
        self._quiet = quiet
        self._due = [number for number, record in enumerate(records) if _is_due(record, chat.level)]

    def run(self) -> None:
        """Walk along both: a line is the next record that is due, or one of a lower level before that."""
        records, lines, due = self._records, self._chat.lines, self._due
        place, line, behind = self._start(), 0, 0
        while place < len(due) and line < len(lines):
            record = records[due[place]]
            if record.text == lines[line].text:
                self._check_percent(record, lines[line])
                self.same += 1
                place, line, behind = place + 1, line + 1, due[place] + 1
            elif (sign := self._sign(lines[line], behind, due[place])) is not None:
                line, behind = line + 1, sign + 1
            else:
                missing = _ahead(lines[line].text, (records[number].text for number in due[place + 1 :]))
                added = _ahead(record.text, (other.text for other in lines[line + 1 :]))
                if missing is not None and (added is None or missing <= added):
                    self._find(record, None)
                    place += 1
                elif added is not None:
                    if not self._may_be_sign(lines[line]):
                        self._find(None, lines[line])
                    line += 1
                else:
                    self._find(record, lines[line])
                    place, line = place + 1, line + 1
        for number in due[place:]:
            self._find(records[number], None)
        for extra in lines[line:]:
            if (sign := self._sign(extra, behind, len(records))) is not None:
                behind = sign + 1
            elif not self._may_be_sign(extra):
                self._find(None, extra)
        self._check_end()

    def _start(self) -> int:
        """The first record that is due; for a chat that begins late, the one that its first line is."""
        if not self._chat.late or not self._chat.lines:
            return 0
        texts = (self._records[number].text for number in self._due)
        return next((place for place, text in enumerate(texts) if text == self._chat.lines[0].text), 0)

    def _sign(self, line: ChatLine, start: int, end: int) -> int | None:
        """The place of the record below the level of the chat that *line* shows, as a sign of life."""
        if line.percent is not None:
            return None
        return next((place for place in range(start, end) if self._records[place].text == line.text), None)

    def _may_be_sign(self, line: ChatLine) -> bool:
        """Whether *line* may be a sign of life whose record the other recording does not hold."""
        return self._quiet and line.percent is None

    def _check_percent(self, record: RecordedEvent, line: ChatLine) -> None:
        if record.percent != line.percent:
            shown = "no percentage" if line.percent is None else f"{line.percent}%"
            known = "none" if record.percent is None else f"{record.percent}%"
            self.findings.append(f"{record}: {self._chat.name} shows {shown}, {self._name} has {known}")

    def _check_end(self) -> None:
        """A chat says that a job has succeeded if and only if it has."""
        if not self._records:
            return
        last, end = self._records[-1], self._chat.end
        if last.type not in _TERMINAL or not self._chat.lines or self._chat.lines[-1].text != last.text:
            return
        if (last.type == "done") != (end == "stop"):
            said = "has no end" if end is None else f"ends with {inert(bounded(end, QUOTE_LIMIT))!r}"
            self.findings.append(f"{last}: {self._name} says {inert(last.type)}, {self._chat.name} {said}")

    def _find(self, record: RecordedEvent | None, line: ChatLine | None) -> None:
        where = str(record) if record is not None else inert(self._chat.job)
        there = f"{inert(record.type)} {_quoted(record.text)}" if record is not None else "nothing like that"
        here = _quoted(line.text) if line is not None else "nothing"
        self.findings.append(f"{where}: {self._name} says {there}, {self._chat.name} says {here}")


def _is_due(record: RecordedEvent, level: str) -> bool:
    known = record.level if record.level in LEVELS else LEVELS[-1]
    return record.type in _TERMINAL or LEVELS.index(known) >= LEVELS.index(cast(Any, level))


def _ahead(text: str, others: Iterable[str]) -> int | None:
    """How far ahead *text* comes in *others*."""
    return next((place for place, other in zip(range(LOOK_AHEAD), others, strict=False) if other == text), None)


def _text(delta: dict[str, Any]) -> str | None:
    """The line of a delta, in whichever field it is."""
    for field in ("reasoning_content", "reasoning", "content"):
        if isinstance(value := delta.get(field), str) and value.endswith("\n"):
            return value
    return None


def _quoted(text: str) -> str:
    return repr(bounded(inert(text), QUOTE_LIMIT))
