"""Signals for a process without an event loop: each is noted, and wakes a loop that waits on a socket."""

import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Final, Self

__all__ = ["NotedSignals"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class NotedSignals:
    """While entered: what SIGINT, SIGTERM, SIGHUP and SIGCHLD do to this process is noted, and makes `wake` readable.

    *stops* are the numbers of signals that ask for its end, in their order; *hangups* counts SIGHUP, unless that was
    ignored before.
    """

    def __init__(self) -> None:
        self.wake: socket.socket
        self.wake, self._end = socket.socketpair()
        self.stops: list[int] = []
        self.hangups: int = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for end in (self.wake, self._end):
            end.setblocking(False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(self._end.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.wake.close()
        self._end.close()

    def drain(self) -> None:
        """Let `wake` be readable no more, until the next signal."""
        with suppress(BlockingIOError):
            while self.wake.recv(4_096):
                pass

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.stops.append(number)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self.hangups += 1


def _wake(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing, so that the signal wakes the loop."""
