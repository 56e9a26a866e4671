"""When to ask next. Pure: no clock, no chance of its own; both are handed in."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from relay.errors import UsageError
from relay.events import Status

__all__ = ["LONGEST", "SHORTEST", "Pace", "clamped", "next_poll", "wished"]

SHORTEST: Final = 0.2
LONGEST: Final = 60.0
"""The bounds, in seconds, of what an upstream may ask for in Retry-After and the like."""

NEARLY_DONE: Final = 90
PATIENT_ANSWERS: Final = 4
SLOWER: Final = 1.5


class Pace(Struct, frozen=True, kw_only=True):
    """How often one upstream is asked, and how long its jobs may take. Times are in seconds.

    *interval* is from the start of one poll to the start of the next; *jitter* is by which part of it that may vary in
    either direction. *deadline* is for a whole job, *deadlines* for the time it stays in one status. With *adaptive*,
    polls come quicker when a job moves or is nearly done, and slower while it is flat, from *fastest* to *slowest*.

    The rest is for upstreams that are asked for each job by itself: *requests_per_second* over all jobs (0 for any
    number), and how many requests may be under way at once, *connections*. Raises UsageError for bounds that hold
    nothing.
    """

    interval: float = 2.5
    deadline: float = 1_500.0
    deadlines: Mapping[Status, float] = {}
    jitter: float = 0.0
    adaptive: bool = False
    fastest: float = 1.0
    slowest: float = 15.0
    requests_per_second: float = 0.0
    connections: int = 16

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.deadline <= 0 or not 0 <= self.jitter < 1:
            raise UsageError("interval and deadline are above 0, and jitter is from 0 to below 1")
        if self.adaptive and not 0 < self.fastest <= self.interval <= self.slowest:
            raise UsageError("an adaptive pace needs fastest, interval and slowest in this order, all above 0")
        if self.connections < 1 or self.requests_per_second < 0:
            raise UsageError("connections is 1 or more, and requests_per_second is 0 or more")


def clamped(seconds: float) -> float:
    """What an upstream asked to be waited for, within the bounds."""
    return min(max(seconds, SHORTEST), LONGEST)


def wished(pace: Pace, *, flat: int, percent: int | None, eta: float | None) -> float:
    """The seconds from this poll to the next that would suit a job.

    *flat* is how many answers in a row have brought nothing new; *eta* is how many seconds are thought to be left.
    """
    if not pace.adaptive:
        return pace.interval
    if (percent is not None and percent >= NEARLY_DONE) or (eta is not None and eta <= pace.interval):
        return pace.fastest
    if flat == 0:
        return max(pace.fastest, pace.interval / 2)
    return min(pace.slowest, pace.interval * SLOWER ** min(max(0, flat - PATIENT_ANSWERS), 32))


def next_poll(pace: Pace, wish: float, poll_after: float | None, chance: float) -> float:
    """The seconds from the start of one poll to the start of the next.

    What the upstream asked for, *poll_after*, comes before the job's own *wish*, and varies upwards alone: sooner than
    asked is impolite. *chance* is from 0 to 1.
    """
    if poll_after is not None:
        return clamped(poll_after) * (1 + pace.jitter * chance)
    return wish * (1 + pace.jitter * (2 * chance - 1))
