"""What an event says, it says once, safely, in one line."""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.events import (
    EVENTS,
    TERMINALS,
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Level,
    Log,
    Position,
    Progress,
    Received,
    Retrying,
    Stalled,
)
from relay.wire.record_json import RECORD_LIMIT, read_record, record_schema, stamp

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SPOT = Position("7f3a", 42)

SAID: list[tuple[Event, str]] = [
    (Accepted(upstream="sora"), "accepted for sora"),
    (Accepted(upstream="sora", task="task_01"), "accepted for sora, task task_01"),
    (Checking(attempt=3, of=600), "checking (3 of 600)"),
    (Received(listed=1, seconds=0.254), "answered in 0.25 s, 1 job listed"),
    (Received(listed=5, seconds=1.0), "answered in 1.00 s, 5 jobs listed"),
    (Progress(percent=9, status="running", raw_status="running", source="reported"), "9% (running)"),
    (Progress(percent=None, status="queued", raw_status="preprocessing"), "preprocessing"),
    (
        Progress(percent=None, status="queued", queue_position=4, eta=61.6),
        "queued, position 4 in the queue, about 62 s left",
    ),
    (Progress(percent=None, status="unknown", raw_status="renderring"), "renderring, a status not known here"),
    (Progress(percent=80, status="running", regressed=True), "80% (running), the upstream went back"),
    (Progress(percent=80, status="running", listed=False), "80% (running), not listed at the moment"),
    (DraftsFetch(attempt=2), "no longer pending, fetching the result (try 2)"),
    (DraftsFetch(attempt=1, listed=True), "finished, fetching the result (try 1)"),
    (
        Retrying(kind="server", message="HTTP 502", attempt=1, next_in=2.5),
        "poll failed (server): HTTP 502; next try in 2.5 s",
    ),
    (Stalled(seconds=61), "nothing has moved for 61 s"),
    (Log(line="step 3/9"), "step 3/9"),
    (Done(urls=("https://a/b.mp4",), media_types=("video/mp4",)), "done, 1 file (video/mp4)"),
    (Done(urls=("https://a/b", "https://a/c")), "done, 2 files"),
    (Failed(kind="policy", message="not allowed"), "failed (policy): not allowed"),
    (Cancelled(), "cancelled by the caller"),
    (Cancelled(by="upstream", message="quota"), "cancelled by the upstream: quota"),
]


@pytest.mark.parametrize(("event", "words"), SAID, ids=lambda value: value if isinstance(value, str) else "")
def test_every_event_says_itself_in_one_line(event: Event, words: str) -> None:
    assert event.text == words


def test_an_event_of_a_class_of_somebodys_own_has_the_name_and_the_level_of_that_class() -> None:
    class Remark(Log, frozen=True, kw_only=True, tag="remark"):
        pass

    class Rest(Stalled, frozen=True, kw_only=True, tag="rest"):
        default_level: ClassVar[Level] = "debug"

    remark, rest = Remark(line="a", severity="warning"), Rest(seconds=1)
    assert (remark.type, remark.level, remark.text) == ("remark", "warning", "a")
    assert (rest.type, rest.level, Stalled(seconds=1).level) == ("rest", "debug", "warning")


def test_every_type_of_event_is_worded_here() -> None:
    assert {type(event) for event, _ in SAID} == set(EVENTS)


def test_done_failed_and_cancelled_are_terminal_and_nothing_else_is() -> None:
    assert {kind for kind in EVENTS if kind.terminal} == set(TERMINALS) == {Done, Failed, Cancelled}


def test_a_record_on_the_wire_is_one_flat_object_in_the_order_of_the_interface() -> None:
    record = stamp("job_1", 5, AT, Progress(percent=9, status="running", raw_status="running", source="reported"), SPOT)

    assert list(json.loads(record.json).items()) == [
        ("v", 1),
        ("job", "job_1"),
        ("seq", 5),
        ("at", "2026-01-02T03:04:05.678901Z"),
        ("type", "progress"),
        ("level", "info"),
        ("text", "9% (running)"),
        ("percent", 9),
        ("status", "running"),
        ("raw_status", "running"),
        ("source", "reported"),
        ("queue_position", None),
        ("eta", None),
        ("eta_low", None),
        ("eta_high", None),
        ("listed", True),
        ("regressed", False),
        ("raw_percent", None),
        ("unchanged", False),
    ]


@pytest.mark.parametrize("event", [event for event, _ in SAID], ids=lambda event: event.type)
def test_every_record_reads_back_as_it_was_and_fits_the_published_schema(event: Event) -> None:
    record = stamp("job_1", 5, AT, event, SPOT)

    assert read_record(record.json, SPOT) == record
    jsonschema.validate(json.loads(record.json), record_schema())


def test_the_schema_refuses_what_is_no_record() -> None:
    body: dict[str, Any] = json.loads(stamp("job_1", 1, AT, Accepted(upstream="sora"), SPOT).json)
    for broken in (body | {"type": "surprise"}, {key: body[key] for key in body if key != "seq"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, record_schema())


HOSTILE = st.text(st.characters(codec=None, categories=None), max_size=200) | st.sampled_from(
    [
        "\r\n\r\nevent: done\ndata: {}",
        "\x1b]52;c;aGk=\x07",
        "\x1b[2J",
        "safe\rDONE",
        "\u202egnp.exe",
        "\u2028\u2029\u0085\x0b\x0c",
        "\ud800",
        "\ud83d\ude00",
        "x" * 200_000,
        "\u0000",
    ]
)
ACTIVE = {*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF}


@given(HOSTILE)
def test_text_from_outside_prints_as_one_inert_line_and_travels_as_one_ascii_line(said: str) -> None:
    event = Failed(kind="upstream", message=said)
    record = stamp("job_1", 1, AT, event, SPOT)

    assert not ACTIVE & {ord(char) for char in event.text}
    assert len(event.text) <= 1_000
    assert record.json.isascii()
    assert b"\n" not in record.json
    assert b"\r" not in record.json
    assert len(record.json) < RECORD_LIMIT
    assert read_record(record.json, SPOT) == record


@given(st.text(max_size=200))
def test_a_json_client_gets_the_text_of_a_field_as_the_upstream_wrote_it(said: str) -> None:
    record = stamp("job_1", 1, AT, Failed(kind="upstream", message=said), SPOT)

    assert json.loads(record.json)["message"] == said


def test_a_url_with_a_lone_surrogate_costs_no_record() -> None:
    assert Done(urls=("https://a/\ud800", "https://a/b")).urls == ("https://a/\ufffd", "https://a/b")


def test_a_text_that_is_cut_says_how_long_it_was() -> None:
    kept = Log(line="x" * 200_000).line

    assert len(kept) == 8_192
    assert kept.endswith("x... [200,000 characters in all]")


def test_a_record_over_the_limit_is_refused_with_its_size() -> None:
    huge = Done(urls=("https://example.org/" + "x" * 8_000,) * 33)

    with pytest.raises(UsageError, match=r"a 'done' event of 26\d,\d+ bytes is over the limit of 262,144"):
        stamp("job_1", 1, AT, huge, SPOT)


def test_a_record_of_another_schema_version_is_refused() -> None:
    body = stamp("job_1", 1, AT, Checking(attempt=1, of=2), SPOT).json.replace(b'"v":1', b'"v":2')

    with pytest.raises(msgspec.ValidationError, match="schema version 2; this relay reads 1"):
        read_record(body, SPOT)


@given(st.from_regex(r"[A-Za-z0-9]{1,64}", fullmatch=True), st.integers(0, 10**18 - 1))
def test_a_position_reads_back_from_its_own_spelling(epoch: str, offset: int) -> None:
    assert Position.parse(str(Position(epoch, offset))) == Position(epoch, offset)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "7",
        "7f3a",
        "7f3a-",
        "-42",
        "7f3a--1",
        "7f3a-4 2",
        "7f3a-\u0664",
        "a b-1",
        "7f3a-" + "9" * 19,
        "é-1",
        "\0-1",
    ],
)
def test_what_is_no_position_is_recognised(text: str) -> None:
    assert Position.parse(text) is None
