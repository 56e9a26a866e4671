"""check_sink passes what keeps the laws of a sink, and says in a sentence which law is broken."""

import asyncio
import contextlib
import io
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import pytest

from relay import MemoryJournal, Record, Sink
from relay.events import EVENTS
from relay.jobs import recall
from relay.testing import check_sink, sample_records
from relay.testing.conformance.samples import HOSTILE_TEXTS, hostile_records
from sinks import ConsoleSink, DebugSink


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConsoleSink(io.StringIO(), format="json"),
        lambda: ConsoleSink(io.StringIO(), format="pretty"),
        lambda: DebugSink(io.StringIO()),
        lambda: list[Record]().append,
        lambda: queue.SimpleQueue[Record]().put,
    ],
    ids=["console json", "console pretty", "debug", "list", "queue"],
)
def test_every_sink_of_ours_keeps_the_laws(make: Callable[[], Sink]) -> None:
    check_sink(make())


def test_print_is_a_sink() -> None:
    with contextlib.redirect_stdout(out := io.StringIO()):
        check_sink(print)
    assert out.getvalue().count("Record(") == len(sample_records()) + len(hostile_records())


async def test_within_a_running_event_loop_it_checks_as_well() -> None:
    check_sink(heard := Heard())
    assert heard.kinds >= set(EVENTS)
    with pytest.raises(AssertionError, match="awaited"):
        check_sink(coroutine_function)


class Heard:
    """Keeps what it hears; and how it is entered and left."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.life: list[str] = []

    def __call__(self, record: Record) -> None:
        assert record.seq
        asyncio.get_running_loop()
        self.records.append(record)

    @property
    def kinds(self) -> set[type]:
        return {type(record.event) for record in self.records}

    async def __aenter__(self) -> "Heard":
        self.life.append("entered")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.life.append("left")


def test_a_sink_hears_everything_in_order_on_an_event_loop_and_is_entered_and_left() -> None:
    check_sink(heard := Heard())
    assert heard.records == [*sample_records(), *hostile_records()]
    assert heard.life == ["entered", "left"]


async def coroutine_function(_: Record) -> None:
    pass


class CoroutineCall:
    async def __call__(self, _: Record) -> None:
        pass


def hands_back_a_coroutine(record: Record) -> Coroutine[Any, Any, None]:
    return coroutine_function(record)


def refuses_logs(record: Record) -> None:
    if record.event.type == "log":
        raise KeyError("log")


def gives_up_for_good() -> Sink:
    broken: list[bool] = []

    def sink(record: Record) -> None:
        assert not broken, "broken"
        broken.append(True)
        assert record.seq
        broken.clear()

    return sink


def cannot_print_everything(record: Record) -> None:
    record.json.decode().encode("ascii")
    if record.event.type == "failed":
        getattr(record.event, "message").encode("latin-1")  # noqa: B009


def sleeps(_: Record) -> None:
    time.sleep(3_600)


def swallows_what_stops_it(_: Record) -> None:
    with contextlib.suppress(Exception):
        time.sleep(3_600)


def waits_for_a_result(_: Record) -> None:
    Future[None]().result()


def waits_for_a_thread(_: Record) -> None:
    (thread := threading.Thread(target=bool)).start()
    thread.join()


def asks_the_network(_: Record) -> None:
    socket.create_connection(("127.0.0.1", 9)).close()


def runs_a_program(_: Record) -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.parametrize(
    ("sink", "sentence"),
    [
        (3, "int is no sink"),
        (coroutine_function, "coroutine_function is a coroutine function, and a sink is never awaited"),
        (CoroutineCall(), "CoroutineCall is a coroutine function, and a sink is never awaited"),
        (hands_back_a_coroutine, "hands_back_a_coroutine returned an awaitable on the 'accepted' record"),
        (lambda: None, "raised TypeError"),
        (refuses_logs, r"refuses_logs raised KeyError\('log'\) on the 'log' record \(job_sample_1 seq 9\)"),
        (
            gives_up_for_good(),
            "'accepted' record .job_hostile_1 seq 1.: .* also after an error",
        ),
        (cannot_print_everything, "raised UnicodeEncodeError.* on the 'failed' record .job_hostile_"),
        (sleeps, "sleeps waits on the 'accepted' record .job_sample_1 seq 1., in time.sleep; a sink must not"),
        (swallows_what_stops_it, "swallows_what_stops_it waits on .*, in time.sleep"),
        (waits_for_a_result, "waits_for_a_result waits on .*, in threading.Condition.wait"),
        (waits_for_a_thread, "waits_for_a_thread waits on .*, in threading.Thread.join"),
        (queue.Queue[Record](maxsize=3).put, "Queue.put waits on .* seq 2.*, in threading.Condition.wait"),
        (asks_the_network, "asks_the_network waits on .*, in _socket.getaddrinfo"),
        (runs_a_program, "runs_a_program waits on .*, in "),
    ],
)
def test_a_sink_that_breaks_a_law_is_told_which(sink: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_sink(sink)


def test_a_sink_may_start_a_thread_and_write_to_a_file() -> None:
    def sink(record: Record) -> None:
        with io.StringIO() as out:
            out.write(record.json.decode())
        threading.Thread(target=bool).start()

    check_sink(sink)


def test_the_samples_are_whole_stories_of_every_type_of_event() -> None:
    records = sample_records()
    assert {type(record.event) for record in records} == set(EVENTS)
    assert [record.position.offset for record in records] == list(range(1, len(records) + 1))
    for job in {record.job for record in records}:
        story = [record for record in records if record.job == job]
        assert [record.seq for record in story] == list(range(1, len(story) + 1))
        assert story[0].event.type == "accepted"
        assert [record.terminal for record in story] == [False] * (len(story) - 1) + [True]
        assert recall(story).terminal == story[-1].event


def test_the_samples_are_records_that_a_journal_takes() -> None:
    journal = MemoryJournal()
    for record in sample_records():
        journal.append(record)
    journal.commit()
    assert journal.read(0) == sample_records()


def test_each_hostile_text_occurs_wherever_an_upstream_could_put_it() -> None:
    assert Counter(record.job for record in hostile_records()) == {
        f"job_hostile_{number}": 5 for number in range(1, len(HOSTILE_TEXTS) + 1)
    }
