"""One job that is polled: its deadlines, and when its last poll is."""

import math

from relay.jobs.state import Job
from relay.pace import MAX_DELAY, Pace

__all__ = ["Watch"]


class Watch:
    """One job that is polled, with what its records do not hold: times on the monotonic clock, and failures in a row.

    *added* is when the watch began, *began* when the last poll did. *deadline* is when the whole job is overdue,
    *status_deadline* when it is if it keeps its present status. *held_until* is the earliest time at which the
    upstream, in its last answer, wants to be polled again; *answered* is when that answer came. *spent* is whether its
    last answer, which came when the job was overdue, says that the job is still at work. Nothing is published for a job
    by a watch that was *dropped*.
    """

    __slots__ = (
        "added",
        "answered",
        "began",
        "complete",
        "deadline",
        "dropped",
        "eta",
        "failures",
        "final",
        "final_since",
        "held_until",
        "job",
        "news",
        "poll_after",
        "spent",
        "status_deadline",
    )

    def __init__(self, job: Job, *, added: float, deadline: float, status_deadline: float) -> None:
        self.job: Job = job
        self.added: float = added
        self.deadline: float = deadline
        self.status_deadline: float = status_deadline
        self.failures: int = 0
        self.final: int = 0
        self.final_since: float = 0.0
        self.held_until: float = -math.inf
        self.complete: bool = True
        self.poll_after: float | None = None
        self.eta: float | None = None
        self.began: float = -math.inf
        self.answered: float | None = None
        self.news: bool = False
        self.spent: bool = False
        self.dropped: bool = False

    @property
    def overdue_at(self) -> float:
        """When the job is overdue, as long as it stays as it is."""
        return min(self.deadline, self.status_deadline)

    @property
    def was_polled_overdue(self) -> bool:
        """Whether the job's last poll began when it was overdue already: then the job has had its last chance."""
        return self.began >= self.overdue_at

    def was_polled_late(self, pace: Pace) -> bool:
        """Whether the last poll began long after the job was overdue: the relay was stopped, and could not poll."""
        return self.began > self.overdue_at + pace.interval + MAX_DELAY

    def last_poll_at(self, pace: Pace) -> float:
        """When the job is to be polled a last time, though its turn may be later: once it is overdue, within its pace.

        Infinity for a job that was overdue when it was added, or has been polled since: that one keeps its turn.
        """
        if max(self.began, self.added) >= self.overdue_at:
            return math.inf
        return max(self.overdue_at, self.began + pace.least, self.held_until)

    def fitted(self, due: float, pace: Pace) -> float:
        """*due*, or when the job is overdue, if a poll at *due* would keep the last one from being on time."""
        return self.overdue_at if due < self.overdue_at < due + pace.least else due
