"""A call that does not return is reported from a thread, with the line that it is in."""

import threading

import pytest

from relay.bus import hold_watch
from relay.bus.hold_watch import HoldWatch
from relay.testing import ManualClock


def test_a_sink_that_does_not_return_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_watch, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(hold_watch, "CLOSE_WITHIN", None)
    notices: list[str] = []
    reported = threading.Event()

    def notify(text: str) -> None:
        notices.append(text)
        reported.set()

    watch = HoldWatch(ManualClock(), notify)
    watch.start()
    began = watch.begin("stuck")
    assert reported.wait(60)
    watch.end("stuck", began)
    watch.close()

    assert len(notices) == 1
    assert notices[0].startswith("sink stuck does not return, and everything waits for it: it is in wait, line ")
    assert not [thread for thread in threading.enumerate() if thread.name == "sink-watch"]


def test_calls_that_return_are_not_reported_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_watch, "LOOK_EVERY", 0.001)
    notices: list[str] = []
    watch = HoldWatch(ManualClock(), notices.append)
    watch.start()
    for _ in range(20_000):
        watch.end("quick", watch.begin("quick"))
    watch.close()
    assert notices == []


def test_a_watch_is_started_and_closed_any_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_watch, "CLOSE_WITHIN", None)
    watch = HoldWatch(ManualClock(), print)
    watch.close()
    for _ in range(2):
        watch.start()
        watch.start()
        watch.close()
        watch.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "sink-watch"]
