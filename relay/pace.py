"""How often an upstream is polled, and how long its jobs may take."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from relay.errors import UsageError
from relay.events import Status

__all__ = ["MAX_DELAY", "MIN_DELAY", "Pace", "clamp_delay"]

MIN_DELAY: Final = 0.2
MAX_DELAY: Final = 60.0
"""The bounds, in seconds, of the wait that an upstream may want with Retry-After and the like."""


def clamp_delay(seconds: float) -> float:
    """The *seconds* that an upstream wants its caller to wait, within MIN_DELAY and MAX_DELAY."""
    # In this order, NaN becomes the shortest.
    return min(max(MIN_DELAY, seconds), MAX_DELAY)


class Pace(Struct, frozen=True, kw_only=True):
    """How often one upstream is polled, and how long its jobs may take. Times are in seconds.

    *interval* is from the start of one poll to the start of the next; *jitter* is by which part of it that may vary in
    either direction. *deadline* is for a whole job, *deadlines* for the time it stays in one status. With *adaptive*,
    polls come quicker when a job moves or is nearly done, and slower while it is flat, from *fastest* to *slowest*.
    However soon the upstream asks to be polled again, a poll comes no sooner than *floor* after the one before.

    The rest is for upstreams with one request a job: *requests_per_second* over all jobs (0 for any
    number), and how many requests may be under way at once, *concurrency*. Raises UsageError for bounds that hold
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
    concurrency: int = 16
    floor: float = MIN_DELAY

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.deadline <= 0 or not 0 <= self.jitter < 1:
            raise UsageError("interval and deadline are above 0, and jitter is from 0 to below 1")
        if self.adaptive and not 0 < self.fastest <= self.interval <= self.slowest:
            raise UsageError("an adaptive pace needs fastest, interval and slowest in this order, all above 0")
        if self.concurrency < 1 or self.requests_per_second < 0:
            raise UsageError("concurrency is 1 or more, and requests_per_second is 0 or more")

    @property
    def least(self) -> float:
        """The least seconds between the starts of two polls, if neither the upstream nor news brings one forward."""
        return (self.fastest if self.adaptive else self.interval) * (1 - self.jitter)

    @property
    def patience(self) -> float:
        """The seconds after which a poll is given up: longer than any answer takes that still comes."""
        return max(MAX_DELAY, self.deadline)
