"""Output of several processes as one: each line whole, in the order in which its process wrote it.

[spec] pipe(7): a write of more than 4,096 bytes to a pipe may be mixed with what others write there. A record with
its files is longer, so one process writes for all.
"""

import os
import select
import selectors
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

__all__ = ["Forwarding"]

READ: Final = 65_536
ATOMIC: Final = 4_096
"""[spec] POSIX, PIPE_BUF on Linux: bytes that a pipe which is ready to be written accepts without blocking."""

MOST: Final = 256 * 1024
"""Bytes that wait for one output before its pipes are not read any more; the processes then wait as for a slow pipe."""

LINE: Final = 16 * 1024 * 1024
"""A line that is longer is written in pieces."""


class _Output:
    """One of our own outputs, and the pipes whose lines it receives."""

    def __init__(self, number: int) -> None:
        self.terminal = _opened_again(number) if os.isatty(number) else None
        self.number = number if self.terminal is None else self.terminal
        self.broken = False
        self.waiting: deque[bytes] = deque()
        self.size = 0

    def add(self, data: bytes) -> None:
        if data and not self.broken:
            self.waiting.append(data)
            self.size += len(data)

    def write(self, most: int = ATOMIC) -> None:
        """Write up to *most* bytes. Raises OSError."""
        head = self.waiting[0]
        written = os.write(self.number, head[:most])
        self.size -= written
        if written == len(head):
            self.waiting.popleft()
        else:
            self.waiting[0] = head[written:]


def _opened_again(terminal: int) -> int | None:
    """Another descriptor of a terminal, on which a write does not wait for it: that of others stays as it is."""
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


class Forwarding:
    """Pipes, whose lines are written to outputs of this process. Single-threaded: the caller waits on *selector*.

    While an output stands still, its pipes are not read, so that their writers wait for it as if it were their own. If
    it cannot be written at all, as when its reader has gone, its pipes are closed: their writers notice.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._outputs: dict[int, _Output] = {}
        self._pipes: dict[int, tuple[_Output, bytearray]] = {}

    def pipe_to(self, output: int) -> int:
        """The end of a new pipe to write into: its lines appear on *output*. Close it once it is passed on."""
        if output not in self._outputs:
            self._outputs[output] = _Output(output)
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._pipes[ours] = (self._outputs[output], bytearray())
        return theirs

    def descriptors(self) -> list[int]:
        """The descriptors that are open here: a child process that inherits them closes them."""
        terminals = (output.terminal for output in self._outputs.values())
        return [*self._pipes, *(number for number in terminals if number is not None)]

    def prepare(self) -> None:
        """Register what can be done now with the selector: pipes to be read, outputs to be written."""
        for number, (output, _) in self._pipes.items():
            self._wish(number, selectors.EVENT_READ if output.size < MOST else 0)
        for output in self._outputs.values():
            self._wish(output.number, selectors.EVENT_WRITE if output.waiting else 0)

    def ready(self, number: int) -> None:
        """Work on descriptor *number*, which the selector has found ready."""
        if number in self._pipes:
            self._read(number)
            return
        for output in self._outputs.values():
            if output.number == number:
                self._write(output)

    def finish(self, seconds: float) -> None:
        """Write what is left once no process writes any more, as far as the outputs accept it in so many *seconds*."""
        for number in list(self._pipes):
            while number in self._pipes and self._read(number):
                pass
            if number in self._pipes:  # somebody else has it open as well
                self._close(number)
        self._flush(seconds)

    def catch_up(self, seconds: float) -> None:
        """Write what the processes have written so far, so that a line of our own comes behind it; as `finish` does."""
        for number in list(self._pipes):
            self._read(number)
        self._flush(seconds)

    def _flush(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while waiting := {output.number: output for output in self._outputs.values() if output.waiting}:
            ready = select.select([], list(waiting), [], max(until - time.monotonic(), 0.0))[1]
            if not ready:
                return
            for number in ready:
                self._write(waiting[number])

    def _read(self, number: int) -> bool:
        output, begun = self._pipes[number]
        try:
            data = os.read(number, READ)
        except BlockingIOError:
            return False
        if not data:
            self._close(number)
            return False
        begun += data
        end = begun.rfind(b"\n") + 1 or (len(begun) if len(begun) > LINE else 0)
        output.add(bytes(begun[:end]))
        del begun[:end]
        return True

    def _write(self, output: _Output) -> None:
        try:
            if output.waiting:  # not if it has caught up since it was found ready
                output.write()
        except BlockingIOError:
            pass
        except OSError:
            output.broken = True
            output.waiting.clear()
            output.size = 0
            for number in list(self._of(output)):
                self._close(number)

    def _close(self, number: int) -> None:
        output, begun = self._pipes.pop(number)
        # A process that was killed may leave a part of a line: the next line begins anew.
        output.add(bytes(begun) + b"\n" if begun else b"")
        self._wish(number, 0)
        os.close(number)

    def _of(self, output: _Output) -> Iterator[int]:
        return (number for number, (of, _) in self._pipes.items() if of is output)

    def _wish(self, number: int, events: int) -> None:
        registered = self._selector.get_map().get(number)
        if registered is None:
            if events:
                self._selector.register(number, events)
        elif not events:
            self._selector.unregister(number)
        elif registered.events != events:
            self._selector.modify(number, events)
