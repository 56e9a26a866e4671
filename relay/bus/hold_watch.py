"""Finds the sink that holds the event loop: after the call if it returns, from a thread if it does not."""

import sys
import threading
import time
from collections.abc import Callable
from traceback import extract_stack
from typing import Final, Protocol

from relay.bus.thread_times import ThreadTimes, Times
from relay.clock import Clock, SystemClock
from relay.notices import Notify

__all__ = ["HELD_LONG", "HELD_TOO_LONG", "Accounts", "HoldWatch"]

HELD_LONG: Final = 0.05
"""Seconds of one call after which the operator is notified: a person notices a stream that is late by more."""

HELD_TOO_LONG: Final = 0.1
"""Seconds of one call that count as a failure of the sink, although it has received the record."""

READ_EVERY: Final = 0.01
"""Seconds for which the accounts of the kernel that were read last are good enough for the beginning of a call."""

NOTICE_EVERY: Final = 60.0
LOOK_EVERY: Final = 1.0
CLOSE_WITHIN: Final = 2.0
"""Seconds that closing waits for the thread, which ends at once unless it is in a notice."""

LOOKS: Final = 5
"""A call that is seen this often in a row, LOOK_EVERY seconds apart, is reported while it goes on."""


class Accounts(Protocol):
    """How the time of this thread was spent; `ThreadTimes`, unless a test has its own."""

    def read(self) -> Times: ...
    def close(self) -> None: ...


class HoldWatch:
    """Times each call of a sink, and notifies the operator of one that holds the event loop for over HELD_LONG seconds.

    A sink holds it while it computes, and while it sleeps or waits for something. It does not while the thread waits
    for a processor, or the whole process is stopped, as far as the kernel accounts for that: a sink is not to blame for
    a machine that is busy or stood still. *accounts* opens the kernel's accounts, at `start`.

    Each sink is named once a minute at most. `start` adds a daemon thread that names a sink which does not return at
    all, with the line that it is in: nothing can end such a call from outside.
    """

    def __init__(
        self,
        clock: Clock,
        notify: Notify,
        *,
        now: Callable[[], float] | None = None,
        accounts: Callable[[], Accounts | None] | None = None,
    ) -> None:
        # A clock that is quick, or is moved by hand, is for the relay: the kernel counts in seconds of the machine.
        real = isinstance(clock, SystemClock)
        self._now = now or (time.monotonic if real else clock.monotonic)
        self._open_accounts = accounts or (ThreadTimes.opened if real else _no_accounts)
        self._clock = clock
        self._notify = notify
        self._calls = 0
        self._current: str | None = None
        self._loop_thread = 0
        self._noticed: dict[str, float] = {}
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._accounts: Accounts | None = None
        self._before = Times(0.0, 0.0, 0)
        self._read_again = 0.0

    def begin(self, name: str) -> float:
        """Note that the sink *name* is called; return the time for `end`."""
        self._calls += 1
        self._current = name
        now = self._now()
        if now >= self._read_again and self._accounts is not None:
            self._before, self._read_again = self._accounts.read(), now + READ_EVERY
        return now

    def end(self, name: str, began: float) -> float:
        """Note that it has returned; return for how many seconds it has held the event loop."""
        self._current = None
        took = self._now() - began
        if took > HELD_LONG:
            took = self._held(took)
            if took > HELD_LONG:
                self._report(name, took)
        return took

    def start(self) -> None:
        """Watch calls on this thread that do not return, until `close`."""
        if self._thread is None:
            self._loop_thread = threading.get_ident()
            self._stop = stop = threading.Event()
            self._thread = threading.Thread(target=self._look, args=[stop], name="sink-watch", daemon=True)
            self._thread.start()
            self._accounts = self._open_accounts()

    def close(self) -> None:
        """End the threads. Idempotent."""
        if self._accounts is not None:
            self._accounts.close()
            self._accounts = None
        if self._thread is not None and self._stop is not None:
            self._stop.set()
            self._thread.join(CLOSE_WITHIN)
            self._thread = None

    def _held(self, took: float) -> float:
        """The seconds of a call of *took* seconds that are the sink's own."""
        if self._accounts is None:
            return took
        before, now = self._before, self._accounts.read()
        self._before, self._read_again = now, self._now() + READ_EVERY
        # The accounts were read up to READ_EVERY before the call; a wait in between is in the sink's favour.
        own = took - (now.waited - before.waited)
        return max(0.0, own if now.stops == before.stops else min(own, now.ran - before.ran))

    def _report(self, name: str, took: float) -> None:
        now = self._clock.monotonic()
        if now >= self._noticed.get(name, now):
            self._noticed[name] = now + NOTICE_EVERY
            self._notify(
                f"sink {name} has held the event loop for {took * 1000:,.0f} ms, and every stream and poll was late by"
                " that; give it a queue (sinks.Queued)"
            )

    def _look(self, stop: threading.Event) -> None:
        seen, looks, reported = 0, 0, False
        while not stop.wait(LOOK_EVERY):
            name, calls = self._current, self._calls
            looks = looks + 1 if name is not None and calls == seen else 0
            reported = reported and looks > 0
            seen = calls
            if name is not None and looks >= LOOKS and not reported:
                reported = True
                self._notify(f"sink {name} does not return, and everything waits for it: {self._line()}")

    def _line(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage] - documented
        if frame is None:
            return "its place is not known"
        place = extract_stack(frame, limit=1)[0]
        return f"it is in {place.name}, line {place.lineno} of {place.filename}"


def _no_accounts() -> None:
    return None
