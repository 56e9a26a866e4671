"""One finding of the checker."""

from typing import NamedTuple

__all__ = ["Violation"]


class Violation(NamedTuple):
    """The invariant that does not hold, and where."""

    invariant: str
    words: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.words}"
