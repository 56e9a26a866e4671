"""Hints for a name that is not known: the nearest one that is."""

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["nearest", "unknown"]


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for *name*, which is none of the few in *known*: the nearest of them, and all."""
    near = get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known are {', '.join(known)}"


def unknown(name: str, known: Collection[str]) -> str:
    """A hint for *name*, which is none of *known*: the nearest of them, or all."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
