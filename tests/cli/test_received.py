"""A record that another relay tells is printed as its own console prints it, and is trusted with nothing."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.received import ReceivedRecord, read_received
from relay.events import Record
from relay.testing import sample_records
from relay.testing.conformance.samples import hostile_records
from sinks import ConsoleSink
from sinks.console import Format, Printable
from tests.sinks.hostile import any_text, however_busy_the_machine

ACTS_ON_A_TERMINAL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printed(records: list[Printable], form: Format) -> str:
    out = io.StringIO()
    sink = ConsoleSink(out, format=form)
    for record in records:
        sink(record)
    sink.close()
    return out.getvalue()


def body(**fields: Any) -> bytes:
    said = {
        "v": 1,
        "job": "job_1",
        "seq": 1,
        "at": "2026-01-01T16:00:05.123456Z",
        "type": "log",
        "level": "info",
        "text": "x",
    }
    return msgspec.json.encode(said | fields)


@pytest.mark.parametrize("form", ["pretty", "json"])
@pytest.mark.parametrize("colour", ["", "1"], ids=["plain", "in colour"])
def test_it_is_printed_as_its_own_console_prints_it(form: Format, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", colour)
    records: list[Record] = [*sample_records(), *hostile_records()]
    told: list[ReceivedRecord] = [read_received(record.json) for record in records]

    assert printed([*told], form) == printed([*records], form)
    assert [(one.terminal, one.percent) for one in told] == [
        (record.terminal, getattr(record.event, "percent", None)) for record in records
    ]


def test_an_event_that_only_a_later_version_knows_is_told_in_the_words_it_came_with() -> None:
    told = read_received(body(type="rendered-anew", text="all of it, in other words", level="warning"))

    assert printed([told], "pretty").endswith(
        "warning job_1                   1 rendered-anew all of it, in other words\n"
    )


@pytest.mark.parametrize(
    "refused",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"v":1}',
        body(v=2),
        body(job=""),
        body(job="job\n"),
        body(job="\x1b[2J"),
        body(job="j" * 129),
        body(seq=0),
        body(seq=10**40),
        body(seq=1.5),
        body(at="0001-01-01T00:00:00Z"),
        body(at="2026-01-01T00:00:00"),
        body(at="soon"),
        body(at=datetime(9999, 12, 31, 23, 59, tzinfo=UTC)),
        body(type=""),
        body(type="log\n"),
        body(type="l\x9bog"),
        body(type="l" * 65),
        body(level="loud"),
        body(text=None),
        body(percent=101),
        body(percent=-1),
        body()[:-1] + b',"more":"\xff\xfe"}',
        body()[:-1] + b',"more":"\x1b"}',
    ],
)
def test_what_is_no_record_is_refused(refused: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_received(refused)


@given(any_text, any_text, st.sampled_from(["log", "done", "novel"]))
@however_busy_the_machine
def test_whatever_it_says_it_is_one_line_and_nothing_in_it_acts_on_a_terminal(text: str, more: str, kind: str) -> None:
    try:
        sent = body(type=kind, text=text, more=more)
    except UnicodeEncodeError:  # a lone surrogate, which no JSON in UTF-8 can hold
        return
    told = [read_received(sent)]

    assert ACTS_ON_A_TERMINAL.findall(printed([*told], "pretty")) == ["\n"]
    line = printed([*told], "json")
    assert ACTS_ON_A_TERMINAL.findall(line) == ["\n"]
    assert line.isascii()
    assert msgspec.json.decode(line) == msgspec.json.decode(sent)


@pytest.mark.parametrize("space", ["\r", "\t", "\n", " \r\n "])
def test_white_space_between_its_parts_moves_no_cursor(space: str) -> None:
    spread = body().replace(b",", f",{space}".encode())

    assert read_received(spread).json == body()


def test_text_without_end_is_cut() -> None:
    assert len(read_received(body(text="x" * 100_000)).event.text) == 1_000
