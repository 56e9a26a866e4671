"""A sink has held the event loop for what it computed, slept and waited, and for nothing that the machine did."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from relay.bus.hold_watch import LOOK_EVERY, LOOKS, READ_EVERY, HoldWatch
from relay.bus.thread_times import ThreadTimes, Times
from relay.clock import SystemClock
from relay.testing import ManualClock


class Machine:
    """Its time, and the kernel's accounts of one thread, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.closed = False
        self._times = Times(7.0, 3.0, 4)

    def passes(self, *, ran: float = 0.0, waited: float = 0.0, blocked: float = 0.0, stopped: float = 0.0) -> None:
        self.now += ran + waited + blocked + stopped
        before = self._times
        self._times = Times(before.ran + ran, before.waited + waited, before.stops + (2 if stopped else 0))

    def read(self) -> Times:
        self.reads += 1
        return self._times

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def watch(machine: Machine, notices: list[str]) -> Iterator[HoldWatch]:
    watch = HoldWatch(ManualClock(), notices.append, now=lambda: machine.now, accounts=lambda: machine)
    watch.start()
    yield watch
    watch.close()
    assert machine.closed


@pytest.mark.parametrize(
    ("spent", "held"),
    [
        pytest.param({"ran": 0.2}, 0.2, id="computes"),
        pytest.param({"blocked": 0.2}, 0.2, id="sleeps"),
        pytest.param({"ran": 0.1, "blocked": 0.1}, 0.2, id="both"),
        pytest.param({"ran": 0.01, "waited": 3.0}, 0.01, id="no-processor"),
        pytest.param({"ran": 0.1, "blocked": 0.1, "waited": 3.0}, 0.2, id="both-on-a-busy-machine"),
        pytest.param({"ran": 0.01, "stopped": 3.0}, 0.01, id="stopped"),
        pytest.param({"ran": 0.2, "waited": 1.0, "stopped": 3.0}, 0.2, id="computes-and-is-stopped"),
    ],
)
def test_a_sink_is_charged_for_its_own_time(
    spent: dict[str, float], held: float, machine: Machine, watch: HoldWatch, notices: list[str]
) -> None:
    began = watch.begin("audit")
    machine.passes(**spent)
    assert watch.end("audit", began) == pytest.approx(held)
    assert [notice.split(" ms")[0] for notice in notices] == (
        ["sink audit has held the event loop for 200"] if held > 0.05 else []
    )


def test_what_was_before_the_call_excuses_a_sink_by_ten_milliseconds_at_most(
    machine: Machine, watch: HoldWatch
) -> None:
    watch.end("quick", watch.begin("quick"))
    machine.passes(waited=0.9 * READ_EVERY)
    began = watch.begin("audit")
    machine.passes(blocked=0.2)
    assert 0.2 - READ_EVERY <= watch.end("audit", began) <= 0.2
    machine.passes(waited=5.0, stopped=5.0)
    began = watch.begin("audit")
    machine.passes(blocked=0.2)
    assert watch.end("audit", began) == pytest.approx(0.2)


def test_the_kernel_is_asked_a_hundred_times_a_second_at_most(machine: Machine, watch: HoldWatch) -> None:
    for _ in range(1_000):
        began = watch.begin("quick")
        machine.passes(ran=0.001)
        watch.end("quick", began)
    assert machine.reads <= 101


def test_a_process_that_was_stopped_in_a_call_puts_it_down_to_no_sink() -> None:
    """The time is handed in, ten seconds a look; the stop is a real one, and so is what the kernel says of it."""
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(STOPPED)], stdout=subprocess.PIPE, text=True)
    assert os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT) is not None
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate()
    assert out.splitlines() == [
        "stopped: under a second, []",
        "not stopped: sink audit has held the event loop for",
    ]


STOPPED = """
    import itertools, os, signal
    from relay.bus.hold_watch import HoldWatch
    from relay.clock import SystemClock

    notices = []
    watch = HoldWatch(SystemClock(), notices.append, now=itertools.count(0, 1_000.0).__next__)
    watch.start()
    began = watch.begin("audit")
    os.kill(os.getpid(), signal.SIGSTOP)
    held = watch.end("audit", began)
    print(f"stopped: {'under a second' if held < 1.0 else held}, {notices}")
    while not notices:  # until the thread that is never to run has come to rest
        watch.end("audit", watch.begin("audit"))
    print("not stopped:", notices[0].split(" for ")[0], "for")
    watch.close()
"""


class Looks(threading.Event):
    """The event that the thread of a watch waits for between two looks: *before* each, a test does something."""

    def __init__(self, before: Iterable[Callable[[], object]]) -> None:
        super().__init__()
        self._before = iter(before)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout == LOOK_EVERY
        act = next(self._before, None)
        if act is not None:
            act()
        return act is None


def test_a_call_is_reported_once_after_so_many_looks_that_find_no_other(notices: list[str]) -> None:
    watch = HoldWatch(ManualClock(), notices.append, now=lambda: 0.0)
    reported: list[int] = []

    def again() -> None:
        watch.end("audit", 0.0)
        watch.begin("audit")

    def stays() -> None:
        reported.append(len(notices))

    watch.begin("audit")
    watch._look(Looks([stays] * (LOOKS + 1)))
    assert (reported, len(notices)) == ([0] * (LOOKS + 1), 1)
    del notices[:]
    watch._look(Looks([stays] * 3 * LOOKS))
    assert len(notices) == 1, "it is told once"
    watch._look(Looks([*[stays] * 2 * LOOKS, again, *[stays] * 2 * LOOKS]))
    assert len(notices) == 3, "another call is told anew"
    del notices[:]
    watch._look(Looks([again] * 4 * LOOKS))
    watch.end("audit", 0.0)
    watch._look(Looks([stays] * 4 * LOOKS))
    assert notices == [], "calls that return, and no call at all"


def test_a_clock_that_is_moved_by_hand_has_nothing_to_do_with_the_kernels_accounts(notices: list[str]) -> None:
    watch = HoldWatch(ManualClock(), notices.append)
    watch.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "stop-watch"]
    watch.close()


def test_each_figure_of_the_kernel_is_read_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """[measured] Time on a processor, time spent waiting for one, both in nanoseconds, and the number of runs."""
    times = ThreadTimes.opened()
    assert times is not None
    shown = {times._own: b"2000000000 3000000000 17\n", times._idle: b"5000000 6000000 19\n"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda descriptor, *_: shown[descriptor])
        assert times.read() == Times(ran=2.0, waited=3.0, stops=19)
        shown[times._own] = b""
        assert times.read() == Times(ran=2.0, waited=3.0, stops=19), "the last ones, if there are no new ones"
    times.close()


def test_without_a_thread_there_are_no_accounts_and_nothing_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert ThreadTimes.opened() is None
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_accounts_leave_no_thread_and_no_descriptor_behind() -> None:
    before = set(os.listdir("/proc/self/fd"))
    times = ThreadTimes.opened()
    assert times is not None
    first = times.read()
    assert first.ran > 0.0
    times.close()
    times.close()
    assert times.read() == first
    assert set(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "stop-watch"]


def test_without_the_kernels_accounts_a_call_is_timed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    assert ThreadTimes.opened() is None
    now, notices = iter([1.0, 1.2, 1.2]), list[str]()
    watch = HoldWatch(SystemClock(), notices.append, now=lambda: next(now))
    watch.start()
    assert watch.end("audit", watch.begin("audit")) == pytest.approx(0.2)
    watch.close()
    assert len(notices) == 1


def test_a_quick_clock_makes_no_call_longer() -> None:
    """Twenty seconds of a relay that is shown at twenty times its speed are one of the machine."""
    watch = HoldWatch(SystemClock(speed=1e15), print)
    assert watch.end("audit", watch.begin("audit")) < 1e6
