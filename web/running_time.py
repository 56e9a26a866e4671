"""The time in which this process was running: a limit measured in it passes for no client that had no chance to act."""

__all__ = ["RunningTime"]


class RunningTime:
    """Seconds in which the process was running, as looks at a clock show it. No I/O.

    At most *most* seconds count between two looks. For the rest of them the process, or the whole machine, stood still,
    so that nothing that a client did was noticed, and a client on the same machine could do nothing.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._seconds = 0.0
        self._looked: float | None = None

    def at(self, now: float) -> float:
        """The seconds so far; *now* is the time of this look, on a clock that never goes back."""
        if self._looked is not None:
            self._seconds += min(now - self._looked, self._most)
        self._looked = now
        return self._seconds
