"""The jobs of a stream."""

from collections.abc import Sequence

from relay import Job

__all__ = ["Selection"]


class Selection:
    """The jobs that a client named, or all of them: as *jobs* for the bus, and as *ids* for the journal.

    Both are None for all jobs, those that are still to come included.
    """

    __slots__ = ("ids", "jobs")

    def __init__(self, jobs: Sequence[Job] | None) -> None:
        self.jobs: Sequence[Job] | None = jobs
        self.ids: tuple[str, ...] | None = None if jobs is None else tuple([job.id for job in jobs])
