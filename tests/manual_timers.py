"""The timers of an event loop, and its time, which the test moves."""

from collections.abc import Callable

__all__ = ["ManualTimers"]


class ManualTimers:
    """The part of an event loop that sets timers. A timer that is cancelled is the one that was set last."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    @property
    def times(self) -> list[float]:
        """When the timers that are set are due."""
        return [at for at, _ in self.timers]

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, act: Callable[[], object]) -> "ManualTimers":
        self.timers.append((at, act))
        return self

    def call_later(self, delay: float, act: Callable[[], object]) -> "ManualTimers":
        return self.call_at(self.now + delay, act)

    def cancel(self) -> None:
        self.timers.pop()

    def passes_to(self, now: float) -> None:
        """Let it be *now*: what is due is called."""
        self.now = now
        due, self.timers = [each for each in self.timers if each[0] <= now], [t for t in self.timers if t[0] > now]
        for _, act in due:
            act()
