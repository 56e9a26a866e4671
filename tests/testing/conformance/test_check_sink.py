"""check_sink passes what keeps the laws of a sink, and says in a sentence which law is broken."""

import asyncio
import contextlib
import io
import logging
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from relay import MemoryJournal, Record, Sink, UsageError
from relay.events import EVENTS
from relay.jobs import recall
from relay.testing import SINK_LAWS, ScriptedFarEnd, check_sink, sample_records
from relay.testing.conformance.samples import HOSTILE_TEXTS, hostile_records
from sinks import ConsoleSink, DebugSink, FileSink, Queued
from tests.testing.conformance.right_sink import CANARY, RightSink


@pytest.mark.parametrize("pretty", [False, True], ids=["json", "pretty"])
def test_the_console_keeps_the_laws(pretty: bool) -> None:
    out = io.StringIO()
    report = check_sink(
        lambda: ConsoleSink(out, format="pretty" if pretty else "json"),
        output=lambda: out.getvalue().encode("utf-8", "surrogatepass"),
    )
    assert set(WRITTEN) - {"level"} <= {*report.kept, "strict_json" if pretty else ""}


def test_the_debug_sink_keeps_the_laws() -> None:
    out = io.StringIO()
    report = check_sink(lambda: DebugSink(out), output=lambda: out.getvalue().encode())
    assert set(WRITTEN) - {"level"} <= set(report.kept)


@pytest.mark.parametrize("pretty", [False, True], ids=["json", "pretty"])
def test_the_file_sink_keeps_the_laws(pretty: bool, tmp_path: Path) -> None:
    path = tmp_path / "jobs.log"
    path.touch()
    report = check_sink(
        lambda: FileSink(path, format="pretty" if pretty else "json"), output=path.read_bytes, target=str(path)
    )
    assert {*WRITTEN, "adds_up", "named"} - {"level"} <= {*report.kept, "strict_json" if pretty else ""}


def test_a_console_in_colours_keeps_the_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    report = check_sink(lambda: ConsoleSink(out, format="pretty"), output=lambda: out.getvalue().encode())
    assert "\x1b[" in out.getvalue()
    assert "control_bytes" in report.kept


WRITTEN = (
    *("arrives", "once", "ordered", "ordered_across", "interleaved", "terminal", "replay", "after_error"),
    *("reentered", "leftovers", "close_cancelled", "idle", "drains", "memory", "one_each", "control_bytes", "large"),
    *("strict_json",),
)
"""The laws that every sink is held to that writes somewhere."""


def test_print_is_a_sink() -> None:
    with contextlib.redirect_stdout(out := io.StringIO()):
        report = check_sink(print)
    assert "Record(" in out.getvalue()
    assert report.kept == (
        "contract",
        "waits",
        "awaitable",
        "events",
        "hostile",
        "nonsense",
        "publishes",
        "alters",
        "memory",
    )


def test_what_could_not_be_tried_is_listed_with_the_reason() -> None:
    report = check_sink(print_nothing)
    assert set(report.kept) | set(report.not_exercised) == set(SINK_LAWS)
    assert report.not_exercised["once"] == "no output= was given, which returns the bytes that the sink has written"
    assert report.not_exercised["down"] == "no far_end= was given, which makes trouble"
    assert str(report).startswith("print_nothing keeps 9 laws; 36 were not exercised:\n")


def print_nothing(_: Record) -> None:
    pass


def test_a_sink_that_keeps_every_record_may_do_so_on_purpose() -> None:
    for keeps in (list[Record]().append, queue.SimpleQueue[Record]().put):
        with pytest.raises(AssertionError, match="breaks the law 'memory': of 10,000 records, it still holds 10,000"):
            check_sink(keeps)
        assert check_sink(keeps, waive=["memory"]).not_exercised["memory"] == "it was waived"


def test_a_law_that_there_is_not_cannot_be_waived() -> None:
    with pytest.raises(UsageError, match=r"no law is called 'memry'; did you mean 'memory'\?"):
        check_sink(print_nothing, waive=["memry"])
    with pytest.raises(UsageError, match=r"write waive=\['memory'\]"):
        check_sink(print_nothing, waive="memory")


async def test_within_a_running_event_loop_the_laws_of_a_call_are_tried() -> None:
    report = check_sink(received := Received())
    assert received.kinds >= set(EVENTS)
    assert report.kept == ("contract", "waits", "awaitable", "events", "hostile", "nonsense", "publishes", "alters")
    assert "inside a running event loop" in report.not_exercised["once"]
    with pytest.raises(AssertionError, match="awaited"):
        check_sink(hands_back_a_coroutine)


class Received:
    """Keeps the types of what it receives; and how it is entered and left."""

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.life: list[str] = []

    def __call__(self, record: Record) -> None:
        assert record.seq
        asyncio.get_running_loop()
        self.kinds.add(type(record.event))

    async def __aenter__(self) -> "Received":
        self.life.append("entered")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.life.append("left")


def test_a_sink_receives_everything_on_an_event_loop_and_is_entered_and_left_in_turn() -> None:
    check_sink(received := Received())
    assert received.kinds >= set(EVENTS)
    assert received.life == ["entered", "left"] * (len(received.life) // 2)


def test_a_class_is_made_anew_for_each_law() -> None:
    made: list[Received] = []

    class Counted(Received):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    report = check_sink(Counted)
    assert report.sink.endswith("Counted")
    assert len(made) >= len(report.kept)


def test_a_sink_that_shows_a_job_alone_is_held_to_the_order_of_jobs() -> None:
    lines: list[str] = []

    def notify(record: Record) -> None:
        if record.terminal:
            lines.append(f"{record.job} has ended\n")

    report = check_sink(notify, output=lambda: "".join(lines).encode(), writes=lambda record: record.terminal)
    assert {"arrives", "terminal", "replay", "one_each", "control_bytes"} <= set(report.kept)
    assert report.not_exercised["once"] == "writes= wants none of the records of a running job"


def test_a_far_end_may_be_entered_and_have_coroutines_for_methods() -> None:
    far_end = EnteredFarEnd()
    report = check_sink(lambda: RightSink(far_end), far_end=far_end, canary=CANARY)
    assert far_end.life == ["entered", "left"]
    assert {"down", "frozen"} <= set(report.kept)
    assert report.not_exercised["named"] == "no target= was given, which is what its repr has to name"


class EnteredFarEnd(ScriptedFarEnd):
    def __init__(self) -> None:
        super().__init__()
        self.life: list[str] = []

    async def __aenter__(self) -> None:
        self.life.append("entered")

    async def __aexit__(self, *_: object) -> None:
        self.life.append("left")

    async def back(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().back()


async def coroutine_function(_: Record) -> None:
    pass


def generates(_: Record) -> Iterator[None]:
    yield None


def test_a_coroutine_function_is_checked_behind_the_queue_that_a_relay_puts_it_behind() -> None:
    far_end = ScriptedFarEnd()

    async def post(record: Record) -> None:
        await far_end.take(record.json + b"\n", f"{record.job}-{record.seq}")

    report = check_sink(post, far_end=far_end, waive=["bounded", "loss_reported", "coalesces"])
    assert {"adds_up", "down", "frozen", "half_closed", "cancelled_work", "drains", "same_key"} <= set(report.kept)


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": 100},
        {"capacity": 100, "on_full": "drop-newest"},
        {"capacity": 100, "on_full": "coalesce"},
        {"capacity": 100, "on_full": "close"},
        {"capacity": 100, "batch": (20, 5.0)},
    ],
    ids=str,
)
@pytest.mark.parametrize("in_band", [False, True])
def test_the_queue_keeps_the_laws_whatever_its_policy(options: dict[str, Any], in_band: bool) -> None:
    far_end = ScriptedFarEnd()

    async def work(given: Record | list[Record]) -> None:
        records = given if isinstance(given, list) else [given]
        await far_end.take(b"".join(one.json + b"\n" for one in records), f"{records[0].job}-{records[0].seq}")

    async def lost(number: int) -> None:
        await far_end.take(b'{"type":"skipped","missed":%d}\n' % number)

    report = check_sink(lambda: Queued(work, lost=lost if in_band else None, **options), far_end=far_end)
    coalesced = options.get("on_full") == "coalesce"
    assert set(report.not_exercised) == {
        *("level", "closed_twice", "enter_cancelled", "secrets", "named"),
        *(() if coalesced else ("coalesces",)),
    }


def test_a_text_file_and_a_handler_are_checked_as_a_relay_uses_them(tmp_path: Path) -> None:
    with (tmp_path / "jobs.jsonl").open("w", encoding="utf-8") as file:
        report = check_sink(file, output=(tmp_path / "jobs.jsonl").read_bytes)
    assert {"once", "one_each", "strict_json", "drains", "leftovers"} <= set(report.kept)

    out = io.StringIO()
    report = check_sink(logging.StreamHandler(out), output=lambda: out.getvalue().encode())
    assert {"once", "one_each", "control_bytes", "drains", "leftovers"} <= set(report.kept)


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


def makes_nothing() -> None:
    pass


class CannotBeMade:
    def __init__(self) -> None:
        raise OSError("no such place")

    def __call__(self, _: Record) -> None:
        pass


@pytest.mark.parametrize(
    ("sink", "sentence"),
    [
        (3, "int breaks the law 'contract': int is no sink: a sink is called with one record"),
        (makes_nothing, "NoneType breaks the law 'contract': NoneType is no sink"),
        (CannotBeMade, r"CannotBeMade breaks the law 'contract': making it raised OSError\('no such place'\)"),
        (generates, "generates breaks the law 'contract': generates is asynchronous, and a sink is never awaited"),
        (hands_back_a_coroutine, "breaks the law 'awaitable': it returned an awaitable on the 'accepted' record"),
        (
            refuses_logs,
            r"'events': it raised KeyError\('log'\) on the 'log' record \(job_sample_1 seq 9\); a sink takes",
        ),
        (
            gives_up_for_good(),
            "'nonsense': it raised .* on the 'accepted' record .* also after an error",
        ),
        (cannot_print_everything, "'hostile': it raised UnicodeEncodeError.* on the 'failed' record .job_hostile_"),
        (
            sleeps,
            "sleeps breaks the law 'waits': it waits on the 'accepted' record .job_sample_1 seq 1., in time.sleep",
        ),
        (swallows_what_stops_it, "swallows_what_stops_it breaks the law 'waits': .*, in time.sleep"),
        (waits_for_a_result, "'waits': it waits on .*, in threading.Condition.wait"),
        (waits_for_a_thread, "'waits': it waits on .*, in threading.Thread.join"),
        (
            queue.Queue[Record](maxsize=3).put,
            "Queue.put .*'waits': it waits on .* seq 2.*, in threading.Condition.wait",
        ),
        (asks_the_network, "'waits': it waits on .*, in _socket.getaddrinfo"),
        (runs_a_program, "'waits': it waits on .*, in "),
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
