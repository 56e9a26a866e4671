"""Whatever a text tries, each output has one line or one valid document of it, and nothing in it acts."""

import io
import json
import re
import struct
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from relay import Exchange, Position, Record
from relay.events import Accepted, Done, Event, Failed, Log, Progress, Retrying
from relay.text import CUT, TEXT_LIMIT
from relay.wire.event_stream import EventStreamParser
from relay.wire.record_json import stamp
from sinks import ConsoleSink, DebugSink, FileSink, frame
from sinks.chat import ChatChunks
from sinks.responses import STRIDE, ResponseEvents
from sinks.sse import line
from tests.sinks.hostile import CORPUS
from tests.sinks.outputs import a_terminal

AT: Final = datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC)
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

# By their general category: controls, formats (bidirectional, zero-width, tags), surrogates, and line separators.
_ACTS: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_PRINTS: Final = frozenset("\u00ad\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")
"""Formats that are shown, or only say where a word may be broken."""

some_of_the_corpus = pytest.mark.parametrize(
    "kind", ["the clipboard", "a link to elsewhere", "a title", "every control of C1"]
)
the_corpus = pytest.mark.parametrize("text", CORPUS.values(), ids=list(CORPUS))


def acting(text: str) -> set[str]:
    """The characters of *text* that do something other than to be shown."""
    return {character for character in set(text) - _PRINTS if unicodedata.category(character) in _ACTS}


@cache
def story(text: str) -> tuple[Record, ...]:
    """The records of a job that has *text* wherever an upstream can put it."""
    events: list[Event] = [
        Accepted(upstream=text, task=text),
        Progress(percent=50, status="unknown", raw_status=text, raw_percent=text),
        Retrying(kind="malformed", message=text, attempt=1, next_in=2.5),
        Log(line=text),
        Done(urls=(f"https://cdn.example/{text}",), result={"title": text, text: [text]}),
        Failed(kind="upstream", message=text),
    ]
    return tuple(
        stamp("job_1", seq, AT + timedelta(seconds=seq), event, Position("e", seq))
        for seq, event in enumerate(events, start=1)
    )


def strict(document: bytes) -> Any:
    """*document* as JSON, which is ASCII on one line without control characters, and has none but JSON's figures."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert document.isascii()
    assert not re.search(rb"[\x00-\x1f\x7f]", document)
    return json.loads(document, parse_constant=refuse)


def printed(records: Sequence[Record], **options: Any) -> str:
    out = io.StringIO()
    sink = ConsoleSink(out, **options)
    for record in records:
        sink(record)
    sink.close()
    return out.getvalue()


def filed(records: Sequence[Record], folder: Path, **options: Any) -> bytes:
    path = folder / "jobs"
    sink = FileSink(path, **options)
    for record in records:
        sink(record)
    sink.close()
    return path.read_bytes()


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    assert len(CORPUS) >= 90
    assert len(set(CORPUS.values())) >= len(CORPUS) - 3


@the_corpus
def test_the_console_prints_one_line_for_each_record_of_which_nothing_acts(text: str) -> None:
    records = story(text)
    shown = printed(records, format="pretty")
    assert shown.count("\n") == len(records)
    assert acting(shown) == {"\n"}
    assert shown.encode().decode() == shown


@some_of_the_corpus
def test_in_colours_nothing_but_the_colours_is_added(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = story(CORPUS[kind])
    plain = printed(records, format="pretty")
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = printed(records, format="pretty")
    assert COLOUR.sub("", coloured) == plain


@some_of_the_corpus
def test_a_real_terminal_is_sent_nothing_that_acts_on_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with a_terminal() as terminal:
        sink = ConsoleSink(terminal.out)
        for record in story(CORPUS[kind]):
            sink(record)
        sink(stamp("job_1", 9, AT, Log(line="the end"), Position("e", 9)))
        lines = terminal.read_lines("the end\r")
        sink.close()
    assert len(lines) == 7
    assert acting(COLOUR.sub("", "".join(lines))) == set(), "the terminal's own line ends apart"


@the_corpus
def test_files_hold_one_line_for_each_record(text: str, tmp_path: Path) -> None:
    records = story(text)
    plain = filed(records, tmp_path)
    assert plain == b"".join(record.json + b"\n" for record in records)
    (tmp_path / "jobs").unlink()
    pretty = filed(records, tmp_path, format="pretty").decode()
    assert pretty.count("\n") == len(records)
    assert acting(pretty) == {"\n"}


@the_corpus
def test_a_record_on_the_wire_is_strict_json_of_bounded_size_that_holds_the_text(text: str) -> None:
    for record in story(text):
        document = strict(record.json)
        assert len(record.json) <= 256 * 1024
        assert acting(document["text"]) == set()
        assert document["job"] == "job_1"
    kept = strict(story(text)[3].json)["line"]
    if len(text) <= TEXT_LIMIT:
        assert kept == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    else:
        assert kept.endswith(CUT)
    assert len(kept) <= TEXT_LIMIT


@the_corpus
def test_a_stream_has_one_event_for_each_record_and_none_that_a_text_made_up(text: str) -> None:
    records = story(text)
    blocks = b"".join(map(frame, records))
    events = EventStreamParser().feed(blocks)
    assert [(event.event, event.id) for event in events] == [
        (record.event.type, str(record.position)) for record in records
    ]
    assert [strict(event.data) for event in events] == [json.loads(record.json) for record in records]
    assert all(event.retry is None for event in events)
    assert b"".join(map(line, records)).splitlines() == [record.json for record in records]


@the_corpus
def test_a_chat_has_whole_chunks_and_ends_once(text: str) -> None:
    records = [*story(text)[:4], story(text)[5]]
    chunks = ChatChunks(job="job_1", created=1, model="m")
    data = b"".join(map(chunks.record, records))
    events = [event.data for event in EventStreamParser().feed(data)]
    assert events.count(b"[DONE]") == 1
    assert events[-1] == b"[DONE]"
    for event in events[:-1]:
        document = strict(event)
        assert "error" in document or document["object"] == "chat.completion.chunk"


@the_corpus
def test_a_response_has_whole_events_with_numbers_of_its_own(text: str) -> None:
    events = ResponseEvents(job="job_1", created=1, model="m")
    for record in story(text):
        for event in EventStreamParser().feed(events.record(record, summary="x")):
            document = strict(event.data)
            assert document["type"] == event.event
            assert document["sequence_number"] // STRIDE == record.seq


@the_corpus
def test_the_debug_sink_prints_one_line_of_json_for_each_record_and_exchange(text: str) -> None:
    out = io.StringIO()
    sink = DebugSink(out)
    exchange = Exchange(
        jobs=("job_1",), upstream="u", method="GET", url=text, status=200, seconds=1.0, request=text, response=text,
        at=AT,
    )  # fmt: skip
    for record in story(text):
        sink(record)
    sink.exchange(exchange)
    sink.close()
    *records, last = out.getvalue().encode().splitlines()
    assert records == [record.json for record in story(text)]
    assert strict(last)["type"] == "exchange"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (float("-inf"), None),
        (1e308 * 10, None),
        (10**30, "1" + "0" * 30),
        (-(2**63), -(2**63)),
        (b"\x00\xff", "b'\\x00\\xff'"),
        (AT, "2026-01-01 16:00:05.123456+00:00"),
        (Decimal("1.10"), "1.10"),
        ({1: (2, 3)}, {"1": [2, 3]}),
        ({3}, "{3}"),
        ("\ud83d", "\ufffd"),
        (struct.Struct, "<class '_struct.Struct'>"),
    ],
    ids=repr,
)
def test_a_value_that_json_has_not_is_null_or_text_in_every_output(value: object, kept: object, tmp_path: Path) -> None:
    record = stamp("job_1", 1, AT, Done(result={"extra": value}), Position("e", 1))
    outputs: dict[str, Callable[[], bytes]] = {
        "console": lambda: printed([record], format="json").encode(),
        "file": lambda: filed([record], tmp_path),
        "stream": lambda: EventStreamParser().feed(frame(record))[0].data,
    }
    for name, output in outputs.items():
        assert strict(output().rstrip(b"\n"))["result"] == {"extra": kept}, name
