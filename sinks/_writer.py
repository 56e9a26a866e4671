"""Lines handed over to a writer thread, so that an output that stands still stops nobody.

An unread pipe takes 64 KiB, and then blocks whoever writes: that must not be the event loop.
"""

import asyncio
import atexit
import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final, TextIO, cast

__all__ = ["CLOSE_TIMEOUT", "LineWriter", "lost_as_json"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for the output to take what is left."""

GATHER: Final = 0.005
"""Seconds that lines are gathered in where an event loop runs, before the thread is woken.

A thread that is woken while the loop writes to streams contends with it for the interpreter, at each write: beside 100
streams that doubled what a line costs (380 us of CPU, and 180 with this), and lines that are close share a wake-up.
"""

MANY: Final = 256
"""As many lines wake the thread though the loop is not free yet: what it is busy with may be a long burst."""

BYTES_LIMIT: Final = 16 * 1024 * 1024
BATCH: Final = 64 * 1024
RETRY_AFTER: Final = 1.0
RETRY_FULL_AFTER: Final = 0.01


def lost_as_json(missed: int) -> bytes:
    """A JSON line that is no record, and says how many lines are missing at its place."""
    return b'{"type":"skipped","missed":%d}\n' % missed


class LineWriter:
    """Writes lines to *out* on a daemon thread of its own, in order, in batches, each line whole.

    At most *capacity* lines and 16 MiB wait. Beyond that the oldest give way, so that what is printed stays close to
    now, and in their place one line (`lost(how many)`) says how many are missing. An output that fails (closed pipe,
    full disk) is tried again every second.

    The thread starts with the first line and ends with `close`; a line after that starts it again. What is still
    waiting when the interpreter exits is written then, as far as that takes no longer than CLOSE_TIMEOUT. Where *out*
    has a file descriptor, the bytes go there and past the buffer of *out*; None is an output that takes nothing.
    """

    def __init__(
        self,
        out: TextIO | BinaryIO | None,
        capacity: int = 10_000,
        *,
        lost: Callable[[int], bytes] = lost_as_json,
    ) -> None:
        self.encoding: str = getattr(out, "encoding", None) or "utf-8"
        self.missed = 0
        self._out = out
        self._capacity = capacity
        self._lost = lost
        self._lock = threading.Lock()
        self._news: SimpleQueue[None] = SimpleQueue()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._told = 0
        self._called = False
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._many = min(MANY, capacity // 2)
        self._batch = b""
        self._thread: threading.Thread | None = None
        self._closing_until: float | None = None
        if out is not None:
            # What the program has printed before stays before.
            with suppress(OSError, ValueError):
                out.flush()

    def write(self, line: bytes) -> None:
        """Take *line*, which ends in a line feed. Never blocks, never raises; callable from any thread.

        Where an event loop runs on that thread, *line* is written 5 ms later, as soon as the loop is free.
        """
        if self._out is None:
            return
        loop = _running_loop()
        with self._lock:
            self._lines.append(line)
            self._size += len(line)
            while len(self._lines) > 1 and (len(self._lines) > self._capacity or self._size > BYTES_LIMIT):
                self._size -= len(self._lines.popleft())
                self.missed += 1
            if self._thread is None:
                self._start(self._out)
            if self._called:
                return
            if loop is None or len(self._lines) > self._many:
                self._call()
            elif loop is not self._gathering:  # one that has ended wakes nobody any more
                self._gathering = loop
                loop.call_later(GATHER, self._gathered)

    @property
    def waiting(self) -> int:
        """How many lines *out* has not taken yet; a batch under way counts as one."""
        with self._lock:
            return len(self._lines) + bool(self._batch)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what is left, as far as *out* takes it within *timeout* seconds, and end the thread."""
        atexit.unregister(self.close)
        with self._lock:
            thread = self._thread
            self._closing_until = time.monotonic() + timeout
        self._news.put(None)
        if thread is not None:
            thread.join(timeout)

    def _call(self) -> None:
        """Have the thread look for lines, once until it does: it may stand still for long."""
        self._called = True
        self._news.put(None)

    def _gathered(self) -> None:
        with self._lock:
            self._gathering = None
            if self._lines and not self._called:
                self._call()

    def _start(self, out: TextIO | BinaryIO) -> None:
        # Without descriptors or threads to be had, the lines wait for the next one to try again.
        with suppress(OSError, RuntimeError):
            output = _open(out, self.encoding)
            thread = threading.Thread(target=self._run, args=[output], name="line-writer", daemon=True)
            self._closing_until = None
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                self._thread = None
                output.close()
                raise
            atexit.register(self.close)

    def _run(self, output: "_Descriptor | _Stream") -> None:
        try:
            while self._batch or self._take():
                try:
                    self._batch = self._batch[output.write(self._batch) :]
                except Exception as error:
                    if not self._try_again(error):
                        return
        finally:
            output.close()

    def _take(self) -> bool:
        """Wait for lines and make a batch of them; False when there are none and none are to come."""
        while True:
            with self._lock:
                if self._lines:
                    self._called = False
                    self._batch = self._next_batch()
                    return True
                if self._closing_until is not None:
                    self._thread = None
                    return False
            # Half the price of a Condition, whose waiter wakes only to wait for the lock: 7 us a wake-up, not 14.
            self._news.get()

    def _next_batch(self) -> bytes:
        batch = [self._lost(self.missed - self._told)] if self.missed > self._told else []
        self._told = self.missed
        size = 0
        while self._lines and size < BATCH:
            batch.append(self._lines.popleft())
            size += len(batch[-1])
        self._size -= size
        return b"".join(batch)

    def _try_again(self, error: Exception) -> bool:
        """Pause after *error*; False where closing leaves no time for another try."""
        full = isinstance(error, BlockingIOError)
        with self._lock:
            if (until := self._closing_until) is not None and (not full or time.monotonic() >= until):
                self._thread = None
                return False
        with suppress(Empty):
            self._news.get(timeout=RETRY_FULL_AFTER if full else RETRY_AFTER)
        return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Descriptor:
    """A file descriptor of our own, written without a lock that a thread in a blocked terminal could keep.

    Of our own, because the number may mean another file once *out* is closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def write(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)


class _Stream:
    """An output without a descriptor, such as `io.StringIO`."""

    def __init__(self, out: TextIO | BinaryIO, encoding: str) -> None:
        self._out = out
        self._encoding = encoding

    def write(self, data: bytes) -> int:
        if isinstance(self._out, io.RawIOBase | io.BufferedIOBase):
            cast(BinaryIO, self._out).write(data)
        else:
            cast(TextIO, self._out).write(data.decode(self._encoding))
        self._out.flush()
        return len(data)

    def close(self) -> None:
        """It is the caller's to close."""


def _open(out: TextIO | BinaryIO, encoding: str) -> _Descriptor | _Stream:
    try:
        fd = out.fileno()
    except (AttributeError, OSError, ValueError):
        return _Stream(out, encoding)
    return _Descriptor(fd)
