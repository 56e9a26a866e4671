"""Lines passed to a writer thread, so that an output that stands still blocks nothing else.

An unread pipe accepts 64 KiB, and then blocks its writer, which must not be the event loop.
"""

import asyncio
import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import BinaryIO, Final, TextIO

from sinks._outputs import Output, opened
from sinks._troubles import Trouble, notices

__all__ = ["CLOSE_TIMEOUT", "LineWriter", "Output", "Trouble", "lost_as_json", "notices"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for the output to accept the remaining lines."""

GATHER: Final = 0.02
"""Seconds that lines are collected before the thread is woken, if an event loop runs. A person does not notice them.

A thread that is woken while the loop writes to streams contends with it for the interpreter, at each write: beside 100
streams that doubled the cost of a line (380 us of CPU, and 180 with a delay), and close lines share a wake-up.
"""

MANY: Final = 256
"""This many lines wake the thread although the loop is busy: it may be busy with a long burst."""

BYTES_LIMIT: Final = 16 * 1024 * 1024
BATCH: Final = 64 * 1024
RETRY_AFTER: Final = 1.0
RETRY_FULL_AFTER: Final = 0.01


def lost_as_json(missed: int) -> bytes:
    """A JSON line that is no record: the number of lines that are missing in its place."""
    return b'{"type":"skipped","missed":%d}\n' % missed


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
        out: TextIO | BinaryIO | Output | None,
        capacity: int = 10_000,
        *,
        lost: Callable[[int], bytes] = lost_as_json,
        troubled: Callable[[Trouble], object] = bool,
    ) -> None:
        self.encoding: str = getattr(out, "encoding", None) or "utf-8"
        self.missed = 0
        self._accepted = 0
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
        self._gathering_thread = 0
        self._many = min(MANY, capacity // 2)
        self._batch = b""
        self._lines_of_batch = 0
        self._thread: threading.Thread | None = None
        self._closing_until: float | None = None
        if out is not None and not isinstance(out, Output):
            # Output that the program has printed before stays before.
            with suppress(OSError, ValueError):
                out.flush()

    def write(self, line: bytes) -> None:
        """Queue *line*, which ends in a line feed. Never blocks, never raises; callable from any thread.

        If an event loop runs on that thread, *line* is written 20 ms later, as soon as the loop is free.
        """
        if self._out is None:
            self.missed += 1
            self._accepted += 1
            return self._fails(None)
        error, lines = None, self._lines
        with self._lock:
            self._left_behind = False
            self._accepted += 1
            lines.append(line)
            self._size += len(line)
            if len(lines) > self._capacity or self._size > BYTES_LIMIT:
                self._drop_oldest()
            if self._thread is None:
                error = self._start(self._out)
            if not self._called:
                self._arrange_call()
        if error is not None:
            self._fails(error)

    def _drop_oldest(self) -> None:
        while len(self._lines) > 1 and (len(self._lines) > self._capacity or self._size > BYTES_LIMIT):
            self._size -= len(self._lines.popleft())
            self.missed += 1

    def _arrange_call(self) -> None:
        """See that the thread is woken: soon where a loop runs, and at once where none does or many lines wait."""
        gathering = self._gathering
        if (
            gathering is not None
            and self._gathering_thread == get_ident()
            and len(self._lines) <= self._many
            and gathering.is_running()
        ):
            return None  # arranged already; to find the running loop is a system call on some Pythons
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._call()
        if len(self._lines) > self._many:
            self._call()
        elif loop is not self._gathering:  # a loop that has ended wakes no thread any more
            self._gathering, self._gathering_thread = loop, get_ident()
            loop.call_later(GATHER, self._gathered)
        return None

    @property
    def waiting(self) -> int:
        """The number of lines that *out* has not accepted yet."""
        with self._lock:
            return self._waiting()

    @property
    def figures(self) -> tuple[int, int, int]:
        """The numbers of lines that were written, that were lost, and that wait: together all that came, always."""
        with self._lock:
            waiting, missed = self._waiting(), self.missed
            return self._accepted - missed - waiting, missed, waiting

    @property
    def fails(self) -> bool:
        """Whether the last try to write has failed."""
        return self._trouble is not None

    def wake(self) -> None:
        """Start the thread, or wake it, so that *out* does its upkeep although no line waits."""
        with self._lock:
            error = self._start(self._out) if self._thread is None and self._out is not None else None
        self._news.put(None)
        if error is not None:
            self._fails(error)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write the remaining lines, as far as *out* accepts them within *timeout* seconds, and end the thread."""
        thread = self._begin_to_close(timeout)
        if thread is not None:
            thread.join(timeout)
        with self._lock:
            left = self._waiting()
            reported, self._left_behind = self._left_behind, left > 0
        if left and not reported:
            self._report(Trouble("left", None, left))

    def _waiting(self) -> int:
        # A line about lost ones is in front of the others, and is none of them.
        return len(self._lines) + min(self._batch.count(b"\n"), self._lines_of_batch)

    async def aclose(self) -> None:
        """As `close`, without blocking the loop. A cancellation of the caller cuts off the waiting, not the closing."""
        self._begin_to_close(CLOSE_TIMEOUT)
        await asyncio.to_thread(self.close)

    def _begin_to_close(self, timeout: float) -> threading.Thread | None:
        atexit.unregister(self.close)
        with self._lock:
            thread = self._thread
            self._closing_until = time.monotonic() + timeout
        self._news.put(None)
        return thread

    def _call(self) -> None:
        """Wake the thread, once until it looks for lines: it may be blocked for long."""
        self._called = True
        self._news.put(None)

    def _gathered(self) -> None:
        with self._lock:
            self._gathering = None
            if self._lines and not self._called:
                self._call()

    def _start(self, out: TextIO | BinaryIO | Output) -> Exception | None:
        """Start the thread. If no descriptor or thread is available, the next line tries again."""
        try:
            output = opened(out, self.encoding)
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

    def _run(self, output: Output) -> None:
        try:
            while self._batch or self._take(output):
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
                    # Also while lines come without a pause.
                    self._upkeep(output)
        finally:
            output.close()

    def _upkeep(self, output: Output) -> float | None:
        try:
            return output.upkeep()
        except BaseException as error:
            self._fails(error)
            return RETRY_AFTER

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

    def _take(self, output: Output) -> bool:
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
            pause = self._upkeep(output)
            # Half the price of a Condition, whose waiter wakes only to wait for the lock: 7 us a wake-up, not 14.
            with suppress(Empty):
                self._news.get(timeout=pause)

    def _next_batch(self) -> bytes:
        batch = [self._lost(self.missed - self._reported)] if self.missed > self._reported else []
        self._reported = self.missed
        size = self._lines_of_batch = 0
        while self._lines and size < BATCH:
            batch.append(self._lines.popleft())
            self._lines_of_batch += 1
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
