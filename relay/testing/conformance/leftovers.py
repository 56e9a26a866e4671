"""The things that a sink may leave behind: tasks, threads, descriptors, handlers of signals."""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import Any, NamedTuple, Self

__all__ = ["Leftovers", "of_the_executor"]


class Leftovers(NamedTuple):
    """All that is there at one moment."""

    tasks: frozenset["asyncio.Task[Any]"]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    signals: frozenset[tuple[int, Any]]

    @classmethod
    def now(cls) -> Self:
        """All that is there now. Where the system does not list descriptors, there are none."""
        return cls(
            frozenset(asyncio.all_tasks()),
            frozenset(thread for thread in threading.enumerate() if not of_the_executor(thread)),
            frozenset(_descriptors()),
            frozenset((number, signal.getsignal(number)) for number in signal.valid_signals()),
        )

    def beyond(self, before: Self) -> str:
        """All that is new since *before*, in words; empty if nothing is."""
        parts = [
            *(f"the task {task.get_name()!r}" for task in self.tasks - before.tasks),
            *(f"the thread {thread.name!r}" for thread in self.threads - before.threads),
            *(f"the descriptor of {path}" for _, path in self.descriptors - before.descriptors),
            *(f"a handler of {signal.Signals(number).name}" for number, _ in self.signals - before.signals),
        ]
        return ", ".join(sorted(parts))


def of_the_executor(thread: threading.Thread) -> bool:
    """The threads of `asyncio.to_thread` stay with the loop, whatever they were for."""
    return thread.name.startswith("asyncio_")


def _descriptors() -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            for name in os.listdir(folder):
                with suppress(OSError):
                    found.append((int(name), os.readlink(f"{folder}/{name}")))
            # The listing itself had a descriptor, which is gone.
            return [(number, path) for number, path in found if not path.endswith(("/fd", "/proc/self/fd"))]
    return found
