"""When to poll next. Pure: time and chance are handed in."""

from typing import Final

from relay.pace import Pace, clamp_delay

__all__ = ["next_poll", "preferred_interval"]

NEARLY_DONE: Final = 90
PATIENT_ANSWERS: Final = 4
SLOWER: Final = 1.5


def preferred_interval(pace: Pace, *, flat: int, percent: int | None, eta: float | None) -> float:
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

    The upstream's *poll_after* comes before the job's own *wish*, and jitter only adds to it: an earlier poll would be
    impolite. *chance* is from 0 to 1.
    """
    if poll_after is not None:
        return max(pace.floor, clamp_delay(poll_after)) * (1 + pace.jitter * chance)
    return wish * (1 + pace.jitter * (2 * chance - 1))
