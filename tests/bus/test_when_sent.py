"""Sinks that pass records on together get a call behind each commit."""

from collections.abc import Callable

from relay.bus import Bus
from relay.events import Log, Record
from relay.jobs import Job
from relay.journal import MemoryJournal
from relay.testing import ManualClock


def test_a_listener_is_called_behind_the_last_record_of_a_commit_until_it_leaves() -> None:
    bus, job, happened = Bus(MemoryJournal(), clock=ManualClock()), Job("one"), list[object]()

    def receive(record: Record) -> None:
        happened.append(record.seq)

    bus.subscribe(receive)
    leave = bus.when_sent(happened.append)
    bus.subscribe(receive, [job])
    with bus.batch():
        for _ in range(2):
            bus.publish(job, Log(line="in a batch"))
    bus.publish(job, Log(line="by itself"))
    leave()
    bus.publish(job, Log(line="behind"))

    assert happened == [1, 1, 2, 2, False, 3, 3, False, 4, 4]


def test_a_listener_that_fails_or_leaves_meanwhile_affects_nobody_else() -> None:
    notices, called = list[str](), list[str]()
    bus, job = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), Job("one")
    leave = list[Callable[[], None]]()

    def fail(_: bool) -> None:
        raise RuntimeError("the writer is gone")

    def leave_at_once(_: bool) -> None:
        called.append("first")
        leave[0]()

    leave.append(bus.when_sent(leave_at_once))
    bus.when_sent(fail)
    bus.when_sent(lambda _: called.append("last"))
    for _ in range(2):
        bus.publish(job, Log(line="line"))

    assert called == ["first", "last", "last"]
    assert len(notices) == 2
    assert "the writer is gone" in notices[0]


def test_a_listener_that_another_one_makes_leave_is_not_called_any_more() -> None:
    bus, job, called = Bus(MemoryJournal(), clock=ManualClock()), Job("one"), list[str]()
    leave = list[Callable[[], None]]()
    bus.when_sent(lambda _: leave[0]())
    leave.append(bus.when_sent(lambda _: called.append("left")))
    bus.publish(job, Log(line="line"))

    assert called == []


def test_a_listener_may_publish_since_no_sink_waits_for_a_record_any_more() -> None:
    bus, job, seen = Bus(MemoryJournal(), clock=ManualClock()), Job("one"), list[int]()

    def answer(_: bool) -> None:
        if job.state.seq == 1:
            bus.publish(job, Log(line="an answer"))

    bus.when_sent(answer)
    bus.subscribe(lambda record: seen.append(record.seq))
    bus.publish(job, Log(line="line"))

    assert seen == [1, 2]
