"""Several processes of one command: each is started, watched, replaced when it dies, and ended in order."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Final

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PROGRAM: Final = """
import os, select, signal, sys, time
from relay.cli import say
from relay.cli.processes import Ended, work_in_processes

def wait_for_the_end():
    select.select([which.line], [], [])

which = work_in_processes(2, lambda: say("all have begun"))
if isinstance(which, Ended):
    sys.exit(which.status)
"""
WAITS: Final = """
say(f"worker {which.number} is process {os.getpid()}{', again' if which.again else ''}")
which.ready()
wait_for_the_end()
say(f"worker {which.number} ends")
"""


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for the next line of standard error, which *pattern* matches."""
        line = self.error.readline().rstrip("\n")
        match = re.fullmatch(pattern, line)
        assert match is not None, f"{line!r} is not {pattern!r}: {self.error.read()}"
        return match

    @property
    def error(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr

    def begins(self) -> list[int]:
        """Wait until both workers are ready; their processes."""
        processes = [int(self.says(rf"relay: worker {number} is process (\d+)")[1]) for number in (1, 2)]
        self.says("relay: all have begun")
        return processes

    def ends(self) -> tuple[int, list[str]]:
        """Wait for the end: the status, and the rest of standard error in any order."""
        rest = sorted(self.error.read().splitlines())
        return self.process.wait(60), rest


@contextmanager
def running(work: str, stdout: int = subprocess.PIPE) -> Generator[Program]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + work], stdout=stdout, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


ENDS: Final = ["relay: worker 1 ends", "relay: worker 2 ends"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_all_in_order(number: signal.Signals) -> None:
    with running(WAITS) as program:
        program.begins()
        program.process.send_signal(number)
        assert program.ends() == (0, ENDS)


def test_a_worker_that_dies_is_replaced_and_the_other_goes_on() -> None:
    with running(WAITS) as program:
        first, second = program.begins()
        os.kill(first, signal.SIGKILL)
        program.says(rf"relay: worker 1 \(process {first}\) was ended by SIGKILL; another one starts in 0\.2 s")
        third = int(program.says(r"relay: worker 1 is process (\d+), again")[1])
        program.says(rf"relay: worker 1 \(process {third}\) serves in its place")
        assert third not in (first, second)
        os.kill(second, 0)
        program.process.terminate()
        assert program.ends() == (0, ENDS)


def test_a_signal_without_a_name_is_reported_by_its_number() -> None:
    with running(WAITS) as program:
        first, _ = program.begins()
        os.kill(first, signal.SIGRTMIN + 1)
        program.says(rf"relay: worker 1 \(process {first}\) was ended by signal {signal.SIGRTMIN + 1}; another .*")
        program.process.terminate()
        assert program.ends()[0] == 0


def test_the_pause_grows_with_each_death_in_a_row() -> None:
    work = "if which.number == 2: sys.exit(1)\nwhich.ready()\nwait_for_the_end()\nsay('ends')"
    with running(work) as program:
        for pause in (r"0\.2", r"0\.4", r"0\.8"):
            program.says(rf"relay: worker 2 \(process \d+\) has ended with status 1; another one starts in {pause} s")
        program.process.terminate()
        assert program.ends() == (0, ["relay: ends"])


def test_a_mistake_of_the_configuration_is_reported_once_and_is_the_status_of_all() -> None:
    with running('say("no such server")\nsys.exit(2)') as program:
        assert program.ends() == (2, ["relay: no such server"])


def test_workers_end_with_the_process_that_has_started_them() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    process = subprocess.Popen(
        [sys.executable, "-c", f"{PROGRAM}os.write({theirs}, b'+')\nwhich.ready()\nwait_for_the_end()"],
        pass_fds=[theirs],
    )
    os.close(theirs)
    with process, os.fdopen(ours, "rb") as alive:
        assert alive.read(2) == b"++"
        process.kill()
        # Each of them has the other end open as long as it lives.
        assert alive.read() == b""


def test_lines_of_several_workers_are_never_mixed_however_long() -> None:
    work = """
which.ready()
for line in range(50):
    os.write(1, b"%d" % which.number * 20_000 + b"\\n")
os.write(1, b"a part of a line")
wait_for_the_end()
"""
    with running(work) as program:
        program.says("relay: all have begun")
        out = program.process.stdout
        assert out is not None
        whole = sorted(out.readline() for _ in range(100))
        program.process.terminate()
        assert whole == 50 * [f"{20_000 * '1'}\n"] + 50 * [f"{20_000 * '2'}\n"]
        assert program.ends() == (0, [])
        assert out.read() == 2 * "a part of a line\n"


def test_a_hangup_is_passed_on_and_ends_nothing() -> None:
    work = 'signal.signal(signal.SIGHUP, lambda *_: say(f"worker {which.number} reads again"))\n'
    with running(work + WAITS) as program:
        program.begins()
        program.process.send_signal(signal.SIGHUP)
        assert sorted(program.says(r"relay: worker (\d) reads again")[1] for _ in range(2)) == ["1", "2"]
        program.process.terminate()
        assert program.ends() == (0, ENDS)


def test_a_second_signal_ends_also_workers_that_do_not_end() -> None:
    with running("which.ready()\nwait_for_the_end()\nsay('lingers')\ntime.sleep(600)") as program:
        program.says("relay: all have begun")
        program.process.terminate()
        for _ in range(2):
            program.says("relay: lingers")
        program.process.terminate()
        assert program.ends() == (-signal.SIGTERM, [])


def test_a_signal_that_comes_to_a_worker_directly_counts_for_that_one_alone() -> None:
    work = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    with running(work + WAITS) as program:
        first, _ = program.begins()
        os.kill(first, signal.SIGTERM)
        program.says(rf"relay: worker 1 \(process {first}\) has ended with status 0; another one starts in 0\.2 s")
        program.says(r"relay: worker 1 is process \d+, again")
        program.says(r"relay: worker 1 \(process \d+\) serves in its place")
        program.process.terminate()
        assert program.ends() == (0, ENDS)


def test_a_reader_that_leaves_is_noticed_by_the_workers_that_write() -> None:
    work = """
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
which.ready()
try:
    while True:
        os.write(1, b"a line\\n")
except BrokenPipeError:
    say(f"worker {which.number} notices")
wait_for_the_end()
"""
    with running(work) as program:
        program.says("relay: all have begun")
        assert program.process.stdout is not None
        program.process.stdout.close()
        assert sorted(program.says(r"relay: worker (\d) notices")[1] for _ in range(2)) == ["1", "2"]
        program.process.terminate()
        assert program.ends() == (0, [])


def test_a_terminal_that_stands_still_keeps_nothing_from_its_end() -> None:
    work = """
import threading
threading.Thread(target=lambda: os.write(1, 200_000 * b"line\\n"), daemon=True).start()
which.ready()
wait_for_the_end()
say(f"worker {which.number} ends")
"""
    ours, theirs = pty.openpty()
    try:
        with running(work, theirs) as program:
            program.says("relay: all have begun")
            # Nobody reads it, so that it accepts a few thousand bytes.
            assert os.read(ours, 6) == b"line\r\n"
            program.process.terminate()
            assert program.ends() == (0, ENDS)
    finally:
        os.close(ours)
        os.close(theirs)
