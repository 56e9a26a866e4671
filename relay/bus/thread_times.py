"""How the kernel accounts for the time of a thread: on a processor, waiting for one, or stopped with its process."""

import os
import threading
from contextlib import suppress
from typing import Final, NamedTuple, Self

__all__ = ["ThreadTimes", "Times"]

NANOSECONDS: Final = 1_000_000_000


class Times(NamedTuple):
    """The seconds that a thread has *run*, and has *waited* for a processor, and how often its process was stopped.

    *stops* is a number to compare with another one: it differs if the process was stopped in between.
    """

    ran: float
    waited: float
    stops: int


class ThreadTimes:
    """Reads the times of the thread that opens it, and of its process, on Linux.

    The kernel does not say for how long a process was stopped, by a signal or a frozen cgroup. But it runs each thread
    once more to stop it: the runs of a thread that has nothing to do are counted here. `close` ends that thread.
    """

    @classmethod
    def opened(cls) -> Self | None:
        """The times of this thread; None where the kernel does not show them."""
        try:
            return cls()
        except (OSError, RuntimeError):  # no such file, no descriptor or no thread left
            return None

    def __init__(self) -> None:
        self._end = threading.Event()
        self._own = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._idle = -1
        self._last = Times(0.0, 0.0, 0)
        self._thread = threading.Thread(target=self._end.wait, name="stop-watch", daemon=True)
        try:
            self._thread.start()
            self._idle = os.open(f"/proc/self/task/{self._thread.native_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def read(self) -> Times:
        """The times so far, two system calls; those of the last call if the kernel does not show them any more."""
        with suppress(OSError, ValueError):
            ran, waited, _ = map(int, os.pread(self._own, 64, 0).split())
            _, _, runs = map(int, os.pread(self._idle, 64, 0).split())
            self._last = Times(ran / NANOSECONDS, waited / NANOSECONDS, runs)
        return self._last

    def close(self) -> None:
        """End the thread, and give back the descriptors. Idempotent."""
        self._end.set()
        with suppress(RuntimeError):  # it was never started
            self._thread.join()
        for descriptor in (self._own, self._idle):
            if descriptor >= 0:
                os.close(descriptor)
        self._own = self._idle = -1
