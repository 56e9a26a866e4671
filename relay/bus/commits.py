"""When pending records are committed: at once, at the end of a batch, or together with those of later batches."""

import asyncio
import math
from collections.abc import Callable, Sized
from typing import Final, Protocol

from relay.clock import Clock

__all__ = ["SLICE", "CommitScheduler", "Loop", "Writes"]

SLICE: Final = 128
"""How many records are committed and sent in one turn of the loop, once records had to wait for the journal; and how
many end the wait of deferrable batches: to commit and send a record takes three times what publishing it does."""


class Writes(Protocol):
    """A writer of pending records."""

    problem: str | None

    @property
    def pending(self) -> Sized: ...

    @property
    def commit_delay(self) -> float: ...

    def write(self, count: int, /) -> bool: ...

    def recovered(self) -> None: ...


class Scheduled(Protocol):
    """A call that is to come."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """The part of an event loop that the scheduler uses."""

    def call_soon(self, callback: Callable[[], None], /) -> Scheduled: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Scheduled: ...


def _running_loop() -> Loop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class CommitScheduler:
    """Decides when *writer* commits; it neither knows the records nor does I/O.

    Outside of a batch each record is committed at once. A batch is one commit. A deferrable batch waits, until
    `commit_delay` seconds after the last commit was sent to everybody, or until SLICE records are pending, and shares
    its commit with those that come meanwhile; one that lingers waits for them longer. While the journal cannot be
    written, each batch is another try; afterwards what had to wait is committed SLICE records at a time, one slice in
    each turn of the loop.

    *written* is called behind each commit, or each try, with whether that was of deferred batches: the next one is then
    due after the delay, and otherwise any number of them may come within this turn of the loop.

    A commit is synchronous. The records of a journal that is awaited do not come by here: see `SharedWriter`.
    """

    def __init__(
        self,
        writer: Writes,
        clock: Clock,
        running_loop: Callable[[], Loop | None] = _running_loop,
        *,
        written: Callable[[bool], object] = bool,
    ) -> None:
        """Without a running loop nothing is deferred, and nothing sliced."""
        self._writer = writer
        self._clock = clock
        self._running_loop = running_loop
        self._written = written
        self._batches = 0
        self._urgent = False
        self._linger = math.inf
        self._writing = False
        self._sent_at = -math.inf
        self._timer: Scheduled | None = None
        self._timer_at = math.inf
        self._next_slice: Scheduled | None = None
        self.at_rest: asyncio.Event = asyncio.Event()
        """Set unless records that had to wait are being committed, a slice in each turn of the loop."""
        self.at_rest.set()

    def begin(self) -> None:
        """Hold commits back until `end`."""
        self._batches += 1

    def end(self, *, deferrable: bool, linger: float = 0.0) -> None:
        """End a batch: once the outermost has ended, commit, or defer that if every batch in it is *deferrable*.

        Where commits are deferred at all, that is for *linger* seconds or more, the least of all batches in it.
        """
        self._batches -= 1
        if not deferrable:
            self._urgent = True
        if linger < self._linger:
            self._linger = linger
        if not self._batches:
            linger, self._linger = self._linger, math.inf
            self._flush(deferred=False) if self._urgent else self._defer(linger)

    def appended(self) -> None:
        """A record is pending: commit it, unless within a batch."""
        if not self._batches:
            self.flush()

    def flush(self) -> None:
        """Commit what is pending, also within a batch; while the journal cannot be written, this is another try."""
        self._flush(deferred=False)

    def _flush(self, *, deferred: bool) -> None:
        self._urgent = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing or self._next_slice is not None or not (self._writer.pending or self._writer.problem):
            return
        self._writing = True
        try:
            self._write_pending()
        finally:
            self._writing = False
            self._written(deferred)
            if self._writer.problem is None:
                self._sent_at = self._clock.monotonic()

    def _flush_deferred(self) -> None:
        self._flush(deferred=True)

    def _defer(self, linger: float) -> None:
        delay, now = self._writer.commit_delay, self._clock.monotonic()
        # Streams may take longer than the delay to be written to: the next commit is not due as soon as they are.
        at = self._sent_at + delay
        if linger and delay > 0:
            at = max(at, now + linger)
        if at <= now or len(self._writer.pending) >= SLICE:
            self._flush(deferred=delay > 0)
        elif self._timer is not None and self._timer_at <= at:
            return
        elif (loop := self._running_loop()) is None:
            self._flush(deferred=True)
        elif self._writer.pending or self._writer.problem:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = loop.call_later(at - now, self._flush_deferred), at

    def _write_pending(self) -> None:
        """Commit all at once in ordinary times, and in slices once records had to wait."""
        writer = self._writer
        while True:
            count = len(writer.pending) if writer.problem is None else SLICE
            if not writer.write(count):
                return
            if not writer.pending:
                return None if writer.problem is None else writer.recovered()
            if (loop := self._running_loop()) is not None:
                self._next_slice = loop.call_soon(self._write_slice)
                self.at_rest.clear()
                return

    def _write_slice(self) -> None:
        self._next_slice = None
        try:
            self.flush()
        finally:
            if self._next_slice is None:
                self.at_rest.set()
