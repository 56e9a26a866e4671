"""A sink is added to a relay that runs: from any position, filtered, entered, counted, and removed again."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay import Job, Position, Record, Relay, SinkOptions, UnknownJobError, UsageError
from relay.events import Done, Log, Progress
from relay.testing import ManualClock
from tests.relay.scripted import OneStep


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
async def relay(notices: list[str]) -> AsyncIterator[Relay]:
    async with Relay([OneStep(lambda _: {})], clock=ManualClock(auto=True), notify=notices.append) as relay:
        yield relay


@pytest.fixture
def job(relay: Relay) -> Job:
    return relay.registry.add(Job("job_a"))


def told(records: list[Record]) -> list[str]:
    return [record.event.text for record in records]


def write(relay: Relay, job: Job, *lines: str) -> None:
    for line in lines:
        relay.bus.publish(job, Log(line=line))


@pytest.mark.parametrize(("since", "lines"), [(None, ["3"]), ("now", ["3"]), ("start", ["1", "2", "3"])])
async def test_a_sink_begins_where_it_says_without_hole_or_repetition(
    relay: Relay, job: Job, since: Any, lines: list[str]
) -> None:
    records: list[Record] = []
    write(relay, job, "1", "2")
    await relay.add_sink(records.append, since=since)
    write(relay, job, "3")
    assert told(records) == lines


async def test_a_sink_goes_on_behind_a_position(relay: Relay, job: Job) -> None:
    first, second = list[Record](), list[Record]()
    sink = await relay.add_sink(first.append)
    write(relay, job, "1", "2")
    await sink.remove()
    write(relay, job, "3")
    await relay.add_sink(second.append, since=first[0].position)
    assert (told(first), told(second)) == (["1", "2"], ["2", "3"])


async def test_a_position_of_another_journal_is_refused(relay: Relay, job: Job) -> None:
    write(relay, job, "1")
    for position in (Position("another", 1), Position(relay.journal.epoch, 2)):
        with pytest.raises(UsageError, match="none of this journal"):
            await relay.add_sink(print, since=position)
    assert relay.sinks == []


async def test_a_sink_receives_the_jobs_types_and_records_that_it_asks_for(relay: Relay, job: Job) -> None:
    other = relay.registry.add(Job("job_b"))
    by_id, by_type, by_choice = list[Record](), list[Record](), list[Record]()
    await relay.add_sink(by_id.append, jobs=["job_b"])
    await relay.add_sink(by_type.append, types=["progress"])
    await relay.add_sink(by_choice.append, where=lambda record: "2" in record.event.text)
    write(relay, job, "1", "2")
    write(relay, other, "3")
    relay.bus.publish(other, Progress(percent=2, status="running"))
    assert told(by_id) == ["3", "2% (running)"]
    assert told(by_type) == ["2% (running)"]
    assert told(by_choice) == ["2", "2% (running)"]


async def test_a_level_lets_every_end_through_and_can_be_another_for_a_time(relay: Relay, job: Job) -> None:
    records: list[Record] = []
    sink = await relay.add_sink(records.append, level="warning")
    write(relay, job, "1")
    sink.set_level("debug", 600.0)
    assert sink.status().level == "debug"
    write(relay, job, "2")
    await relay.clock.sleep(600.0)
    assert sink.status().level == "warning"
    write(relay, job, "3")
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    assert [record.event.type for record in records] == ["log", "done"]


@pytest.mark.parametrize(("level", "seconds"), [("loud", 1.0), ("debug", 0.0), ("debug", 90_000.0)])
async def test_a_level_that_is_none_or_a_time_without_bounds_is_refused(
    relay: Relay, level: Any, seconds: float
) -> None:
    sink = await relay.add_sink([].append)
    with pytest.raises(UsageError):
        sink.set_level(level, seconds)


async def test_where_that_raises_is_a_failure_of_its_sink_alone(relay: Relay, job: Job, notices: list[str]) -> None:
    records: list[Record] = []
    await relay.add_sink(print, where=lambda record: record.nothing, name="odd")  # type: ignore[attr-defined]
    await relay.add_sink(records.append)
    write(relay, job, "1")
    assert told(records) == ["1"]
    assert notices[0].startswith("sink odd failed on job_a seq 1: AttributeError")


async def test_a_coroutine_function_a_file_and_a_logging_handler_are_sinks() -> None:
    awaited, logged = list[str](), list[logging.LogRecord]()
    file = io.StringIO()

    async def work(record: Record) -> None:
        await asyncio.sleep(0)
        awaited.append(record.event.text)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record)

    # This clock stands still: it knows nothing of the threads that write, and would pass the time that they have.
    async with Relay([], clock=ManualClock()) as relay:
        job = relay.registry.add(Job("job_a"))
        sinks = [await relay.add_sink(sink) for sink in (work, file, Handler(logging.WARNING))]
        write(relay, job, "1", "2")
        relay.bus.publish(job, Log(line="3", severity="warning"))
        for sink in sinks:
            await sink.remove()
            assert sink.status().delivered == 3
    assert awaited == ["1", "2", "3"]
    assert [json.loads(line)["text"] for line in file.getvalue().splitlines()] == ["1", "2", "3"]
    assert [(one.getMessage(), one.levelname, one.job, one.seq) for one in logged] == [  # type: ignore[attr-defined]
        ("3", "WARNING", "job_a", 3)
    ]


async def test_a_managed_sink_is_entered_before_its_first_record_and_left_when_it_is_removed(
    relay: Relay, job: Job
) -> None:
    life: list[str] = []

    class Managed:
        async def __aenter__(self) -> None:
            life.append("enters")

        async def __aexit__(self, *_: object) -> None:
            life.append("leaves")

        def __call__(self, record: Record) -> None:
            life.append(record.event.text)

    sink = await relay.add_sink(Managed())
    write(relay, job, "1")
    await sink.remove()
    write(relay, job, "2")
    await sink.remove()
    assert life == ["enters", "1", "leaves"]
    assert relay.sinks == []


async def test_a_sink_that_cannot_be_entered_is_not_added_and_the_relay_goes_on(relay: Relay, job: Job) -> None:
    class Broken:
        async def __aenter__(self) -> None:
            raise OSError("no route")

        async def __aexit__(self, *_: object) -> None: ...

        def __call__(self, record: Record) -> None: ...

    with pytest.raises(UsageError, match=r"sink \S*Broken could not be started, so it is not added: OSError: no route"):
        await relay.add_sink(Broken())
    assert relay.sinks == []
    write(relay, job, "1")


async def test_a_sink_removed_in_the_middle_of_a_record_receives_nothing_from_then_on(relay: Relay, job: Job) -> None:
    records: list[Record] = []
    closing: list[Any] = []

    def first(record: Record) -> None:
        closing[0].close()

    await relay.add_sink(first)
    closing.append(await relay.add_sink(records.append))
    write(relay, job, "1", "2")
    assert records == []


async def test_names_are_unique_and_one_that_is_given_is_not_given_twice(relay: Relay) -> None:
    def sink(record: Record) -> None: ...

    await relay.add_sink(sink, name="mine")
    with pytest.raises(UsageError, match="there is a sink called 'mine' already"):
        await relay.add_sink(sink, name="mine")
    names = [(await relay.add_sink([].append)).name for _ in range(2)]
    assert names[1] == f"{names[0]}-2"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"level": "loud"}, "one of the levels debug, info, warning, error"),
        ({"types": ["dome"]}, "no event has the type 'dome'"),
        ({"types": "done"}, "are collections"),
        ({"since": "yesterday"}, 'since is a Position, "start" or "now"'),
        ({"name": "a\nb"}, "printing ASCII"),
        ({"durable": True}, "a durable sink needs a name"),
        ({"durable": True, "name": "x", "since": "start"}, "leave out jobs and since"),
    ],
)
async def test_an_option_that_is_none_is_refused_with_those_that_are(relay: Relay, options: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        await relay.add_sink(print, **options)
    with pytest.raises(UsageError, match=sentence):
        Relay([], sinks=[SinkOptions(sink=print, **options)])


async def test_a_job_that_is_not_known_and_a_relay_that_does_not_run_are_errors(relay: Relay) -> None:
    with pytest.raises(UnknownJobError):
        await relay.add_sink(print, jobs=["job_x"])
    with pytest.raises(UsageError, match="the relay is not running"):
        await Relay([]).add_sink(print)


async def test_the_status_of_a_sink_accounts_for_its_records(relay: Relay, job: Job) -> None:
    failing = await relay.add_sink(lambda _: 1 / 0, name="failing")
    plain = await relay.add_sink([].append, name="plain")
    write(relay, job, *"123456")
    status = failing.status()
    assert (status.state, status.failed, status.dropped, status.delivered) == ("open", 5, 1, 0)
    assert (plain.status().delivered, plain.status().cursor, plain.status().lag) == (6, 6, 0)
    await relay.clock.sleep(30.0)
    assert failing.status().state == "half-open"


async def test_a_sink_that_holds_the_loop_is_named_once_a_minute(relay: Relay, job: Job, notices: list[str]) -> None:
    clock = relay.clock

    def slow(record: Record) -> None:
        clock._elapsed += 0.2  # type: ignore[attr-defined]

    sink = await relay.add_sink(slow, name="slow")
    await relay.add_sink([].append)
    write(relay, job, "1", "2")
    assert len(notices) == 1
    assert notices[0].startswith("sink slow has held the event loop for 200 ms")
    assert sink.status().slowest == pytest.approx(0.2)
    await clock.sleep(60.0)
    write(relay, job, "3")
    assert len(notices) == 2


async def test_a_sink_that_keeps_holding_the_loop_is_set_aside_and_probed(
    relay: Relay, job: Job, notices: list[str]
) -> None:
    clock, took = relay.clock, 0.2
    records: list[Record] = []

    def slow(record: Record) -> None:
        records.append(record)
        clock._elapsed += took  # type: ignore[attr-defined]

    sink = await relay.add_sink(slow, name="slow")
    write(relay, job, *"12345678")
    assert (told(records), sink.status().state) == (["1", "2", "3", "4", "5"], "open")
    assert (sink.status().delivered, sink.status().dropped, sink.status().failed) == (5, 3, 0)
    assert notices[-1] == (
        "sink slow has held the event loop 5 times in a row and is set aside; it is tried again every 30 s"
    )
    await clock.sleep(30.0)
    took = 0.0
    write(relay, job, "9")
    assert (sink.status().state, sink.status().delivered) == ("closed", 6)


async def test_one_call_that_holds_the_loop_for_long_sets_nothing_aside(relay: Relay, job: Job) -> None:
    clock = relay.clock
    times = iter([0.2, 0.2, 0.2, 0.2, 0.0, 0.2, 0.2, 0.2, 0.2])

    def sometimes(record: Record) -> None:
        clock._elapsed += next(times)  # type: ignore[attr-defined]

    sink = await relay.add_sink(sometimes)
    write(relay, job, *"123456789")
    assert (sink.status().state, sink.status().delivered) == ("closed", 9)
