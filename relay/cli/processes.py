"""Several processes of one command: started by forking, watched, started again when one dies, and ended in order."""

import os
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from relay.cli import say
from relay.cli.forwarding import Forwarding
from relay.cli.noted_signals import NotedSignals
from relay.cli.terminal import has_terminal

__all__ = ["Ended", "Worker", "can_fork", "work_in_processes"]

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0
"""Seconds before a worker that has died is started again; each death in a row doubles them."""

SETTLED: Final = 10.0
"""Seconds that a worker serves until its next death is the first of a row again."""

CATCH_UP_WITHIN: Final = 0.1
CLOSE_WITHIN: Final = 2.0
"""Seconds that an output has to accept what is left once all workers have ended."""

USAGE: Final = 2
"""The status of a process that was configured wrongly: another one would end the same way."""

_READY: Final = b"+"


class Worker:
    """This process, as one of several: it has the *number* from 1 on, and *again* is set if an earlier one has died.

    *terminal*: whether its standard output leads to a terminal in the end; it is a pipe all the same.
    """

    def __init__(self, number: int, line: socket.socket, *, again: bool, terminal: bool) -> None:
        self.number: int = number
        self.again: bool = again
        self.terminal: bool = terminal
        self.line: socket.socket = line
        """Readable once this process is to end in order: its parent asks for that, or has died."""

    def ready(self) -> None:
        """Report that this process does its work."""
        with suppress(OSError):
            self.line.send(_READY)


class Ended:
    """All processes have ended, with the highest *status* of them."""

    def __init__(self, status: int) -> None:
        self.status: int = status


class _Slot:
    """The place of one worker, whichever process has it at present."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid: int | None = None
        self.line: socket.socket | None = None
        self.since: float | None = None
        """When its process became ready."""
        self.served = False
        self.started = 0
        self.pause = 0.0
        self.due = 0.0


def can_fork() -> bool:
    """Whether this system can make a process of another one as it stands."""
    return hasattr(os, "fork")


def work_in_processes(count: int, begun: Callable[[], object] = bool) -> Worker | Ended:
    """Start *count* processes. This returns a Worker in each of them, and Ended in this one, once all have ended.

    The first one is started alone, and the others once it is ready: a mistake in the configuration is reported once. A
    process that dies is started again, after a pause; one that ends with status 2 before it was ready ends all. The
    first SIGINT or SIGTERM lets all end in order, the next ends them at once; SIGHUP is passed on. A terminal's Ctrl-C
    comes to this process alone. Lines on standard output and standard error of all are never mixed. *begun* is called
    when all were ready for the first time. No thread and no event loop may be running.
    """
    with NotedSignals() as signals:
        return _Parent(count, signals, begun).run()


class _Parent:
    def __init__(self, count: int, signals: NotedSignals, begun: Callable[[], object]) -> None:
        self._signals = signals
        self._begun: Callable[[], object] | None = begun
        self._selector = selectors.PollSelector()
        self._selector.register(signals.wake, selectors.EVENT_READ)
        self._forwarding = Forwarding(self._selector)
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._stopping = False
        self._status = 0
        self._terminal = has_terminal()

    def run(self) -> Worker | Ended:
        while True:
            for slot in self._slots:
                if self._is_due(slot) and (worker := self._start(slot)) is not None:
                    return worker
            if self._stopping and not any(slot.pid for slot in self._slots):
                break
            self._wait()
            self._heed_signals()
            self._reap()
        self._forwarding.finish(CLOSE_WITHIN)
        self._selector.close()
        return Ended(self._status)

    def _is_due(self, slot: _Slot) -> bool:
        return self._is_wanted(slot) and time.monotonic() >= slot.due

    def _is_wanted(self, slot: _Slot) -> bool:
        first = self._slots[0]
        return slot.pid is None and not self._stopping and (slot is first or first.served)

    def _start(self, slot: _Slot) -> Worker | None:
        """Start the process of *slot*; what this returns is returned in that process alone."""
        ours, theirs = socket.socketpair()
        outputs = {number: self._forwarding.pipe_to(number) for number in (1, 2) if _is_mixed(number)}
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        slot.started += 1
        terminal = 1 in outputs and os.isatty(1)
        try:
            pid = os.fork()
        except OSError as error:
            for pair in (ours, theirs):
                pair.close()
            for number in outputs.values():
                os.close(number)
            self._try_later(slot, f"worker {slot.number} cannot be started: {error.strerror}; it is tried again")
            return None
        if pid:
            theirs.close()
            for end in outputs.values():
                os.close(end)
            ours.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, slot)
            slot.pid, slot.line, slot.since = pid, ours, None
            return None
        # From here on this is the new process, which has inherited all that the parent had open.
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the parent
        ours.close()
        for number, end in outputs.items():
            os.dup2(end, number)
            os.close(end)
        for end in self._forwarding.descriptors():
            os.close(end)
        for other in self._slots:
            if other.line is not None:
                other.line.close()
        self._selector.close()
        theirs.setblocking(False)
        return Worker(slot.number, theirs, again=slot.started > 1, terminal=terminal)

    def _wait(self) -> None:
        self._forwarding.prepare()
        due = [slot.due for slot in self._slots if self._is_wanted(slot)]
        pause = max(min(due) - time.monotonic(), 0.0) if due else None
        for key, _ in self._selector.select(pause):
            if key.fileobj is self._signals.wake:
                self._signals.drain()
            elif isinstance(key.data, _Slot):
                self._read(key.data)
            else:
                self._forwarding.ready(key.fd)

    def _read(self, slot: _Slot) -> None:
        if slot.line is None:
            return
        if slot.line.recv(1):
            slot.since, slot.served = time.monotonic(), True
            if slot.started > 1:
                self._forwarding.catch_up(CATCH_UP_WITHIN)
                say(f"worker {slot.number} (process {slot.pid}) serves in its place")
            if self._begun is not None and all(one.served for one in self._slots):
                begun, self._begun = self._begun, None
                self._forwarding.catch_up(CATCH_UP_WITHIN)
                begun()
        else:
            self._hang_up_on(slot)

    def _hang_up_on(self, slot: _Slot) -> None:
        """Ask the process of *slot* to end in order; its death is noticed by a signal."""
        if slot.line is not None:
            self._selector.unregister(slot.line)
            slot.line.close()
            slot.line = None

    def _heed_signals(self) -> None:
        if self._signals.hangups:
            self._signals.hangups = 0
            if self._terminal and not has_terminal():
                self._stop()
            else:
                self._send(signal.SIGHUP)
        if self._signals.stops:
            self._stop()
        if len(self._signals.stops) > 1:
            self._send(signal.SIGKILL)
            number = self._signals.stops[0]
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _stop(self) -> None:
        self._stopping = True
        for slot in self._slots:
            self._hang_up_on(slot)

    def _send(self, number: int) -> None:
        for slot in self._slots:
            # One that is not ready has no handler yet, and reads all of its configuration anew.
            if slot.pid is not None and (number != signal.SIGHUP or slot.since is not None):
                os.kill(slot.pid, number)  # it is not waited for yet, so its id is no other's

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.pid is None:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                self._hang_up_on(slot)
                slot.pid = None
                self._note_end(slot, pid, os.waitstatus_to_exitcode(status))

    def _note_end(self, slot: _Slot, pid: int, status: int) -> None:
        if self._stopping or (status == USAGE and not slot.served):
            self._status = max(self._status, status if status >= 0 else 128 - status)
            self._stop()
            return
        if slot.since is not None and time.monotonic() - slot.since >= SETTLED:
            slot.pause = 0.0
        self._try_later(slot, f"worker {slot.number} (process {pid}) {_how_it_ended(status)}; another one starts")

    def _try_later(self, slot: _Slot, why: str) -> None:
        slot.pause = min(max(2 * slot.pause, FIRST_PAUSE), LONGEST_PAUSE)
        slot.due = time.monotonic() + slot.pause
        self._forwarding.catch_up(CATCH_UP_WITHIN)
        say(f"{why} in {slot.pause:g} s")


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"has ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # most real-time signals have no name
        return f"was ended by signal {-status}"


def _is_mixed(number: int) -> bool:
    """Whether lines that several processes write to this output may be mixed: not if it is a file, or closed."""
    try:
        return not stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return False
