"""Catches code that begins to wait, or to publish, where it must do neither."""

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from relay.bus.bus import Bus

__all__ = ["Watch"]


class Watch:
    """Runs a function and stops it where it begins to wait, or to publish on any bus.

    It looks at what is called, not at how long that takes: a busy machine changes nothing. *waits* and *published* are
    the names of what was called.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.published: bool = False

    @property
    def stopped(self) -> bool:
        """Whether an exception out of the function may be this watch's own."""
        return bool(self.waits)

    def run(self, function: Callable[[], object]) -> object:
        """Return what *function* returns; raise what it raises, and RuntimeError where it begins to wait."""
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            return function()
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            if frame.f_code in _WAITING_CODE and not _is_starting_a_thread(frame):
                self._stop(f"threading.{frame.f_code.co_qualname}")
            elif frame.f_code in _PUBLISHING_CODE:
                self.published = True
        elif event == "c_call" and _waits(called):
            self._stop(f"{called.__module__}.{called.__qualname__}" if called.__module__ else called.__qualname__)

    def _stop(self, what: str) -> None:
        self.waits.append(what)
        raise RuntimeError(f"a sink may not wait, and {what} does")


_WAITING_CODE: Final[frozenset[CodeType]] = frozenset(
    function.__code__ for function in (threading.Condition.wait, threading.Thread.join)
)
_PUBLISHING_CODE: Final[frozenset[CodeType]] = frozenset(
    function.__code__ for function in (Bus.publish, Bus.publish_first)
)
_WAITING_CALLS: Final[tuple[object, ...]] = (time.sleep, select.select, os.waitpid)
_WAITING_METHODS: Final = frozenset({"accept", "connect", "recv", "recv_into", "recvfrom", "sendall"})


def _waits(called: Any) -> bool:
    owner: object = getattr(called, "__self__", None)
    if isinstance(owner, socket.socket):
        return called.__name__ in _WAITING_METHODS and owner.gettimeout() != 0
    return called in _WAITING_CALLS or called.__name__ == "getaddrinfo" or called.__qualname__.endswith("poll.poll")


def _is_starting_a_thread(frame: FrameType | None) -> bool:
    """`Thread.start` waits until the thread runs, which it does at once."""
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False
