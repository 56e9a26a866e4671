"""A machine that stands still, as far as a server and its clients can tell: their processes are stopped for a while."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

__all__ = ["Stall"]

_AFTER: Final = 0.3
"""Seconds from entering until the stall."""


class Stall:
    """Entered, it stops *pids* a moment later, and lets them go on after *seconds*; with 0 of these it does nothing.

    The first of *pids* goes on first: where that is a server, it finds all that its clients have not yet read.
    """

    def __init__(self, pids: Sequence[int], seconds: float) -> None:
        self._pids, self._seconds = pids, seconds
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._stall)
        self.over = False
        """Set from outside when there is nothing left to hold up."""
        self.in_time = False
        """Whether it began before it was over."""

    def __enter__(self) -> "Stall":
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._seconds:
            self._thread.join()

    def _stall(self) -> None:
        if self._left.wait(_AFTER):
            return
        self.in_time = not self.over
        for pid in self._pids:
            _send(pid, signal.SIGSTOP)
        try:
            time.sleep(self._seconds)
        finally:
            for pid in self._pids:
                _send(pid, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
