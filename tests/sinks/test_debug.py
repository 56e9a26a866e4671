"""The debug sink prints every record as it is on the wire, and every raw exchange beside it."""

import io
import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given

from relay import Bus, Exchange, Job, Log, MemoryJournal, Relay
from relay.testing import ManualClock, sample_records
from relay.testing.conformance.samples import hostile_records
from sinks import DebugSink
from tests.sinks.hostile import any_text, however_busy_the_machine
from tests.sinks.outputs import PATIENCE, Gate, a_pipe


def an_exchange(response: str = "[]") -> Exchange:
    return Exchange(
        jobs=("job_1", "job_2"),
        upstream="sora",
        method="GET",
        url="http://upstream.example/nf/pending/v2?key=***",
        status=200,
        seconds=0.25,
        request="",
        response=response,
        at=datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC),
    )


def test_records_are_printed_as_they_are_on_the_wire() -> None:
    out = io.StringIO()
    sink = DebugSink(out)
    records = [*sample_records(), *hostile_records()]
    for record in records:
        sink(record)
    sink.close()
    assert out.getvalue().encode() == b"".join(record.json + b"\n" for record in records)


def test_an_exchange_is_one_json_object_that_is_no_record() -> None:
    out = io.StringIO()
    sink = DebugSink(out)
    sink.exchange(an_exchange('[{"id": "task_1"}]'))
    sink.close()
    assert json.loads(out.getvalue()) == {
        "type": "exchange",
        "jobs": ["job_1", "job_2"],
        "upstream": "sora",
        "method": "GET",
        "url": "http://upstream.example/nf/pending/v2?key=***",
        "status": 200,
        "seconds": 0.25,
        "request": "",
        "response": '[{"id": "task_1"}]',
        "at": "2026-01-01T16:00:05.123456Z",
    }


@given(text=any_text)
@however_busy_the_machine
def test_whatever_an_upstream_answers_it_is_one_line_of_ascii_that_says_the_same(text: str) -> None:
    out = io.StringIO()
    sink = DebugSink(out)
    sink.exchange(exchange := an_exchange(text))
    sink.close()
    line = out.getvalue()
    assert line.isascii()
    assert line.endswith("}\n")
    assert [c for c in line if c < " "] == ["\n"]
    if text == text.encode("utf-8", "replace").decode():
        assert msgspec.json.decode(line, type=Exchange) == exchange


async def test_on_a_relay_records_and_exchanges_come_in_the_order_in_which_they_happen() -> None:
    out = io.StringIO()
    relay = Relay([], sinks=[DebugSink(out)])
    async with relay:
        job = relay.registry.admit()
        first = relay.bus.publish(job, Log(line="before"))
        relay.bus.publish_exchange(exchange := an_exchange())
        last = relay.bus.publish(job, Log(line="after"))
    lines = out.getvalue().encode().splitlines()
    assert (lines[0], lines[2]) == (first.json, last.json)
    assert msgspec.json.decode(lines[1], type=Exchange) == exchange
    assert len(lines) == 3


def test_by_default_it_prints_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    sink = DebugSink()
    sink(record := sample_records()[0])
    sink.close()
    assert capfd.readouterr() == ("", record.json.decode() + "\n")


def test_what_its_output_does_not_take_is_counted_and_said() -> None:
    out = Gate()
    sink = DebugSink(out, capacity=1)
    first, *_, last = records = sample_records()
    sink(first)
    assert out.reached.wait(PATIENCE)
    for record in records[1:]:
        sink(record)
    assert sink.missed == len(records) - 2
    out.open()
    sink.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == first.json.decode()
    assert json.loads(lines[1]) == {"type": "skipped", "missed": len(records) - 2}
    assert lines[2:] == [last.json.decode()]


async def test_a_pipe_that_nobody_reads_stops_neither_records_nor_exchanges() -> None:
    heard: list[object] = []
    bus, job = Bus(MemoryJournal(), clock=ManualClock()), Job("job_1")
    with a_pipe() as pipe:
        sink = DebugSink(pipe.out, capacity=10)
        with bus.subscribe(sink), bus.subscribe(heard.append):
            disconnect = bus.subscribe_exchanges(sink.exchange)
            for _ in range(1_000):
                bus.publish(job, Log(line="x" * 80))
                bus.publish_exchange(an_exchange())
            disconnect()
        assert len(heard) == 1_000
        assert sink.missed > 0
        pipe.stop_reading()
        sink.close()
