"""How long a job will still take, by its pace so far. Pure: a range, or None if too little is known."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

__all__ = ["Left", "Mark", "left", "marked"]

Mark = tuple[datetime, int]
"""When a figure, in percent, was first shown."""

REMEMBERED: Final = 8
MARKS_TO_KNOW: Final = 3
LONGEST: Final = 366 * 86_400.0


class Left(NamedTuple):
    """Seconds left: at the pace so far, at the quickest step's pace, and at the slowest's."""

    likely: float
    low: float
    high: float


def marked(marks: Sequence[Mark], at: datetime, percent: int) -> tuple[Mark, ...]:
    """*marks* with one more. A clock that went back makes the earlier ones worthless."""
    # Each mark was held against the one before it, so the last one is the highest and the latest.
    in_order = not marks or (marks[-1][0] < at and marks[-1][1] < percent)
    return (*marks[1 - REMEMBERED :], (at, percent)) if in_order else ((at, percent),)


def left(marks: Sequence[Mark], now: datetime) -> Left | None:
    """The seconds left, or None while fewer than two steps were seen, or at 100 %.

    The time since the last step counts too: a job that stands still takes longer with every answer.
    """
    if len(marks) < MARKS_TO_KNOW or (remaining := 100 - marks[-1][1]) <= 0:
        return None
    (first, lowest), (last, highest) = marks[0], marks[-1]
    overall = (max(now, last) - first).total_seconds() / (highest - lowest)
    quickest, slowest = math.inf, overall
    at, percent = first, lowest
    for then, more in marks[1:]:  # one pass for both, in two thirds of the time of `min` and `max` over a list
        pace = (then - at).total_seconds() / (more - percent)
        if pace < quickest:
            quickest = pace
        if pace > slowest:
            slowest = pace
        at, percent = then, more
    return Left(_whole(remaining * overall), _whole(remaining * quickest), _whole(remaining * slowest))


def _whole(seconds: float) -> float:
    return float(round(seconds)) if seconds < LONGEST else LONGEST
