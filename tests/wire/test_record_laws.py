"""A record's JSON is made from parts, and its event's texts by short cuts: both are what the plain way makes."""

import json
from datetime import UTC, datetime
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import EVENTS, Done, Event, Log, Position, Retrying
from relay.text import LINE_LIMIT, bounded, inert
from relay.wire.record_json import read_record, stamp
from sinks.sse import frame
from tests.jobs.any_events import any_event
from tests.sinks.hostile import any_text

_moments: Final = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1))
_ids: Final = st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True)
_long: Final = st.builds(lambda text, times: text * times, any_text, st.integers(1, 3_000))


def plain_json(job: str, seq: int, at: datetime, event: Event) -> bytes:
    """The record as one object, encoded as a whole: in ASCII, and without a DEL."""
    head = {"v": 1, "job": job, "seq": seq, "at": at, "type": event.type, "level": event.level, "text": event.text}
    encoded = msgspec.json.encode({**head, **msgspec.to_builtins(event)}).decode()
    return (
        "".join(letter if letter < "\x7f" else json.dumps(letter)[1:-1] for letter in encoded)
        .replace("\x7f", r"\u007f")
        .encode()
    )


@given(job=_ids, seq=st.integers(1, 10**12), at=_moments, event=any_event)
def test_a_record_of_any_event_is_the_json_of_one_plain_object(job: str, seq: int, at: datetime, event: Event) -> None:
    position = Position("01234567", seq + 3)
    record = stamp(job, seq, at, event, position)

    assert record.json == plain_json(job, seq, at, event)
    assert (record.job, record.seq, record.at, record.event, record.position) == (job, seq, at, event, position)
    assert read_record(record.json, position) == record


@given(event=any_event, at=_moments)
def test_a_frame_is_the_type_the_json_and_the_position(event: Event, at: datetime) -> None:
    record = stamp("job_1", 1, at, event, Position("7f3a", 42))

    assert frame(record).decode("ascii") == f"event: {event.type}\ndata: {record.json.decode()}\nid: 7f3a-42\n\n"


@given(text=st.one_of(any_text, _long))
def test_a_text_is_kept_bounded_and_its_line_is_inert(text: str) -> None:
    log, retrying, done = (
        Log(line=text),
        Retrying(kind="server", message=text, attempt=1, next_in=1.0),
        Done(urls=(text, "x"), media_types=(text,)),
    )
    kept = bounded(text)

    assert (log.line, retrying.message, done.urls, done.media_types) == (kept, kept, (kept, "x"), (kept,))
    assert log.text == bounded(inert(kept), LINE_LIMIT)


@pytest.mark.parametrize("kind", EVENTS)
def test_the_name_of_an_event_is_that_of_its_class(kind: type[Event]) -> None:
    assert kind.__struct_config__.tag == vars(kind)["type"]


@given(event=any_event)
def test_every_text_of_an_event_is_bounded(event: Event) -> None:
    values = [getattr(event, name) for name in event.__struct_fields__ if name != "result"]

    assert [value for value in values if isinstance(value, str) and value != bounded(value)] == []
