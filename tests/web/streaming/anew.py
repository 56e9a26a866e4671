"""A journal whose epoch changes under its readers, as one does that several nodes share."""

from relay.journal import MemoryJournal, Retention
from relay.journal.memory import _Shelf

__all__ = ["STEP", "AnewJournal"]

STEP = 1_000
"""How far above its head an epoch ends the next one begins: no cursor can be there."""


class AnewJournal(MemoryJournal):
    """Begins anew on demand, empty and behind all that anybody can have read. Its bus is to be notified by the test."""

    def __init__(self, keep: Retention | None = None, *, epoch: str = "first") -> None:
        super().__init__(keep, epoch=epoch)
        self.keep = keep

    def begin_anew(self, epoch: str = "second") -> None:
        """Lose every record, and know of the jobs that run that they do; nothing may wait for a commit."""
        running = [job for job, shelf in self._by_job.items() if shelf.ended is None]
        MemoryJournal.__init__(self, self.keep, epoch=epoch, after=self.head + STEP)
        for job in running:
            self._by_job[job] = shelf = _Shelf()
            shelf.trimmed_to = self.head

    def carry_over(self, job: str) -> None:
        """Append a state of *job* without a record: over that no cursor leads without a gap."""
        self._head += 1
        self._all.trimmed_to = self._by_job.setdefault(job, _Shelf()).trimmed_to = self._head
