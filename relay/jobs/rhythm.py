"""A job's own rhythm: after how many answers something usually moves, and when that is overdue. Pure."""

from datetime import datetime
from typing import Final

from msgspec import Struct

__all__ = ["Rhythm"]

REMEMBERED: Final = 8
GAPS_TO_KNOW: Final = 3
TIMES_THE_LONGEST: Final = 4
FEWEST_ANSWERS: Final = 12


class Rhythm(Struct, frozen=True, kw_only=True, gc=False):
    """How a job moves while it has one status.

    It is counted in answers, not in seconds: polls that failed, a machine that slept and a clock that jumped say
    nothing of the job. *still* is how many answers in a row brought nothing new, *gaps* how many it took each time
    before, *since* when something moved last.
    """

    since: datetime | None = None
    still: int = 0
    gaps: tuple[int, ...] = ()
    stalled: bool = False

    def moved(self, at: datetime) -> "Rhythm":
        """The rhythm after an answer that brought something new."""
        return Rhythm(since=at, gaps=(*self.gaps[1 - REMEMBERED :], self.still + 1))

    def alive(self, at: datetime) -> "Rhythm":
        """The rhythm after a sign of life that is no progress, such as a line of the job's log."""
        return Rhythm(since=at, gaps=self.gaps)

    def stayed(self) -> "Rhythm":
        """The rhythm after an answer that brought nothing new."""
        return Rhythm(since=self.since, still=self.still + 1, gaps=self.gaps, stalled=self.stalled)

    @property
    def overdue(self) -> bool:
        """Whether a movement is overdue: four times the longest wait so far. False while there is no rhythm."""
        if len(self.gaps) < GAPS_TO_KNOW:
            return False
        return self.still > max(FEWEST_ANSWERS, TIMES_THE_LONGEST * max(self.gaps))
