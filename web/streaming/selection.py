"""The jobs of a stream."""

from collections.abc import Sequence
from typing import TypeAlias

from relay import Job, Relay

__all__ = ["Selection", "SelectionKey"]

SelectionKey: TypeAlias = tuple[str, ...] | str | None
"""Equal for two selections of the same jobs."""


class Selection:
    """The jobs that a client named, those of one owner, or all of them.

    *jobs* is None for the latter two, whose jobs that are still to come are included. The owner's are those of *relay*.
    """

    __slots__ = ("_ids", "_relay", "jobs", "owner")

    def __init__(self, jobs: Sequence[Job] | None, *, owner: str | None = None, relay: Relay | None = None) -> None:
        self.jobs: Sequence[Job] | None = jobs
        self.owner: str | None = owner
        self._relay = relay
        self._ids: tuple[str, ...] | None = None if jobs is None else tuple([job.id for job in jobs])

    @property
    def is_all(self) -> bool:
        """Whether it is of all jobs, whosever they are."""
        return self.jobs is None and self.owner is None

    @property
    def key(self) -> SelectionKey:
        """Different for selections of different jobs."""
        return self.owner if self.owner is not None else self._ids

    def ids(self, after: int = 0) -> tuple[str, ...] | None:
        """The ids for the journal: those of jobs with records behind the offset *after*; None for all jobs.

        A job that was named is always among them.
        """
        if self._relay is None or self.owner is None:
            return self._ids
        return tuple([job.id for job in self._relay.jobs(self.owner) if job.state.offset > after])
