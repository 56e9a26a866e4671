"""Lines passed to a writer thread, so that an output that stands still blocks nothing else.

An unread pipe accepts 64 KiB, and then blocks its writer, which must not be the event loop.
"""

import asyncio
import atexit
import io
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import BinaryIO, Final, Literal, NamedTuple, TextIO, cast

__all__ = ["CLOSE_TIMEOUT", "LineWriter", "Trouble", "lost_as_json", "notices"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for the output to accept the remaining lines."""

GATHER: Final = 0.005
"""Seconds that lines are collected before the thread is woken, if an event loop runs.

A thread that is woken while the loop writes to streams contends with it for the interpreter, at each write: beside 100
streams that doubled the cost of a line (380 us of CPU, and 180 with this delay), and close lines share a wake-up.
"""

MANY: Final = 256
"""This many lines wake the thread although the loop is busy: it may be busy with a long burst."""

BYTES_LIMIT: Final = 16 * 1024 * 1024
BATCH: Final = 64 * 1024
RETRY_AFTER: Final = 1.0
RETRY_FULL_AFTER: Final = 0.01
WORDS: Final = 200
"""Characters of an error that are shown."""


def lost_as_json(missed: int) -> bytes:
    """A JSON line that is no record: the number of lines that are missing in its place."""
    return b'{"type":"skipped","missed":%d}\n' % missed


class Trouble(NamedTuple):
    """A change of an output: it fails with *error* (None: there is no output), works again, or left lines behind.

    *lines*: the number of lines lost before it failed, lost since then, or left behind, respectively.
    """

    what: Literal["fails", "works again", "left"]
    error: BaseException | None
    lines: int


def notices(output: str, *, watched: bool) -> Callable[[Trouble], None]:
    """A function that reports troubles of *output* to the operator on the `relay` logger, which writes to stderr.

    Unless the output is *watched*, a closed pipe and a missing output are not reported.
    """
    silent = False

    def say(trouble: Trouble) -> None:
        nonlocal silent
        if trouble.what == "fails":
            silent = not watched and (trouble.error is None or isinstance(trouble.error, BrokenPipeError))
        if not silent:
            logging.getLogger("relay").warning("%s", _in_words(output, trouble))

    return say


def _in_words(output: str, trouble: Trouble) -> str:
    lines = "1 line" if trouble.lines == 1 else f"{trouble.lines:,} lines"
    match trouble.what:
        case "fails" if trouble.error is None:
            return f"{output} is closed, so nothing is printed there"
        case "fails":
            what = str(trouble.error) or type(trouble.error).__name__
            return f"{output} cannot be written ({what[:WORDS]}); lines wait for it, and it is tried again every second"
        case "works again":
            return f"{output} can be written again; lost meanwhile: {lines}"
        case "left":
            return f"{output} was closed before it took the last lines; lost with it: {lines}"


class LineWriter:
    """Writes lines to *out* on a daemon thread of its own, in order, in batches, each line whole.

    At most *capacity* lines and 16 MiB wait. Beyond that the oldest are dropped, so that the output stays close to now,
    and one line in their place (`lost(number)`) reports their number. A failing output (closed pipe, full disk) is
    retried every second. *troubled* is called once when the output starts to fail, once when it can be written again,
    and if closing leaves lines behind; on any thread.

    The thread starts with the first line and ends with `close`; a later line starts it again. Lines that are waiting
    when the interpreter exits are written then, within CLOSE_TIMEOUT. If *out* has a file descriptor, the bytes are
    written to it, past the buffer of *out*; None is an output that accepts nothing.
    """

    def __init__(
        self,
        out: TextIO | BinaryIO | None,
        capacity: int = 10_000,
        *,
        lost: Callable[[int], bytes] = lost_as_json,
        troubled: Callable[[Trouble], object] = bool,
    ) -> None:
        self.encoding: str = getattr(out, "encoding", None) or "utf-8"
        self.missed = 0
        self._out = out
        self._capacity = capacity
        self._lost = lost
        self._troubled = troubled
        self._trouble: Trouble | None = None
        self._left_behind = False
        self._lock = threading.Lock()
        self._news: SimpleQueue[None] = SimpleQueue()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._reported = 0
        self._called = False
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._many = min(MANY, capacity // 2)
        self._batch = b""
        self._thread: threading.Thread | None = None
        self._closing_until: float | None = None
        if out is not None:
            # Output that the program has printed before stays before.
            with suppress(OSError, ValueError):
                out.flush()

    def write(self, line: bytes) -> None:
        """Queue *line*, which ends in a line feed. Never blocks, never raises; callable from any thread.

        If an event loop runs on that thread, *line* is written 5 ms later, as soon as the loop is free.
        """
        if self._out is None:
            self.missed += 1
            return self._fails(None)
        loop, error = _running_loop(), None
        with self._lock:
            self._left_behind = False
            self._lines.append(line)
            self._size += len(line)
            while len(self._lines) > 1 and (len(self._lines) > self._capacity or self._size > BYTES_LIMIT):
                self._size -= len(self._lines.popleft())
                self.missed += 1
            if self._thread is None:
                error = self._start(self._out)
            if self._called:
                pass
            elif loop is None or len(self._lines) > self._many:
                self._call()
            elif loop is not self._gathering:  # a loop that has ended wakes no thread any more
                self._gathering = loop
                loop.call_later(GATHER, self._gathered)
        if error is not None:
            self._fails(error)

    @property
    def waiting(self) -> int:
        """The number of lines that *out* has not accepted yet; a batch in progress counts as one."""
        with self._lock:
            return len(self._lines) + bool(self._batch)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write the remaining lines, as far as *out* accepts them within *timeout* seconds, and end the thread."""
        atexit.unregister(self.close)
        with self._lock:
            thread = self._thread
            self._closing_until = time.monotonic() + timeout
        self._news.put(None)
        if thread is not None:
            thread.join(timeout)
        with self._lock:
            left = len(self._lines) + self._batch.count(b"\n")
            reported, self._left_behind = self._left_behind, left > 0
        if left and not reported:
            self._report(Trouble("left", None, left))

    def _call(self) -> None:
        """Wake the thread, once until it looks for lines: it may be blocked for long."""
        self._called = True
        self._news.put(None)

    def _gathered(self) -> None:
        with self._lock:
            self._gathering = None
            if self._lines and not self._called:
                self._call()

    def _start(self, out: TextIO | BinaryIO) -> Exception | None:
        """Start the thread. If no descriptor or thread is available, the next line tries again."""
        try:
            output = _open(out, self.encoding)
        except OSError as error:
            return error
        thread = threading.Thread(target=self._run, args=[output], name="line-writer", daemon=True)
        self._closing_until = None
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            output.close()
            return error
        atexit.register(self.close)
        return None

    def _run(self, output: "_Descriptor | _Stream") -> None:
        try:
            while self._batch or self._take():
                try:
                    self._batch = self._batch[output.write(self._batch) :]
                except BaseException as error:
                    # Ctrl-C reaches the main thread alone, so any error here is a failure of the output.
                    if not isinstance(error, BlockingIOError):
                        self._fails(error)
                    if not self._try_again(error):
                        return
                else:
                    self._works()
        finally:
            output.close()

    def _fails(self, error: BaseException | None) -> None:
        if self._trouble is None:
            self._trouble = Trouble("fails", error, self.missed)
            self._report(self._trouble)

    def _works(self) -> None:
        if self._trouble is not None:
            before, self._trouble = self._trouble, None
            self._report(Trouble("works again", None, self.missed - before.lines))

    def _report(self, trouble: "Trouble") -> None:
        with suppress(Exception):
            self._troubled(trouble)

    def _take(self) -> bool:
        """Wait for lines and make a batch of them; False if there are none and the writer is closing."""
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
        batch = [self._lost(self.missed - self._reported)] if self.missed > self._reported else []
        self._reported = self.missed
        size = 0
        while self._lines and size < BATCH:
            batch.append(self._lines.popleft())
            size += len(batch[-1])
        self._size -= size
        return b"".join(batch)

    def _try_again(self, error: BaseException) -> bool:
        """Pause after *error*; False if closing leaves no time for another try."""
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
    """A duplicate of a file descriptor, written without a lock that a thread blocked by a terminal could hold.

    It is a duplicate because the number may mean another file once *out* is closed.
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
        """The stream stays open: the caller closes it."""


def _open(out: TextIO | BinaryIO, encoding: str) -> _Descriptor | _Stream:
    try:
        fd = out.fileno()
    except (AttributeError, OSError, ValueError):
        return _Stream(out, encoding)
    return _Descriptor(fd)
