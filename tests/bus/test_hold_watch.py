"""A sink has held the event loop for what it computed, slept and waited, and for nothing that the machine did."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest

from relay.bus.hold_watch import READ_EVERY, HoldWatch
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
