"""What a node keeps of the journal for its readers: the newest records, and which jobs the present epoch has."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from relay.events import Level, Record
from relay.journal.base import Kept, Retention, StoredJob
from relay.journal.memory import MemoryJournal
from relay.journal.redis._entries import KeptEntry

__all__ = ["LocalCopy"]


class LocalCopy:
    """The entries behind some offset, without a hole, within *keep*; readers of older ones get a gap.

    It is what readers read: synchronous, and in the order of offsets.
    """

    def __init__(self, keep: Retention) -> None:
        self._keep = keep
        self._unique: dict[str, str] = {}
        self.begin("", 0)

    def begin(
        self, epoch: str, after: int, states: Iterable[StoredJob] = (), unique: Mapping[str, str] | None = None
    ) -> None:
        """Go on in *epoch* behind the offset *after*, without any record, with the *states* that it has already.

        What jobs have *unique* is known from before as well: a job that is carried over into a new epoch keeps it.
        """
        if unique is not None:
            self._unique = dict(unique)
        self._records = MemoryJournal(self._keep, epoch=epoch, after=after)
        self.head: int = after
        self._running: set[str] = set()
        self._ended: dict[str, int] = {}
        self._carried: dict[str, int] = {}
        for job in sorted(states, key=lambda job: job.state.offset):
            self._note(job.id, job.state.ended, job.state.offset)
            if not job.state.ended and job.state.offset <= after:
                self._records.expect(job.id, job.state.offset)
        self._forget()

    @property
    def epoch(self) -> str:
        return self._records.epoch

    @property
    def kept(self) -> Kept:
        return self._records.kept

    @property
    def trimmed_to(self) -> int:
        """The offset behind which all that was appended is here."""
        return self._records.trimmed_to

    def add(self, entries: Sequence[KeptEntry]) -> None:
        """Add *entries*, which follow what is here."""
        for kept in entries:
            entry = kept.entry
            self.head = entry.offset
            if kept.unique:
                job = entry.record.job if entry.record is not None else entry.stored.id if entry.stored else ""
                self._unique[job] = kept.unique
            if entry.record is not None:
                self._records.append(entry.record)
                self._note(entry.record.job, entry.record.terminal, entry.offset)
            elif entry.stored is not None:
                self._note(entry.stored.id, entry.stored.state.ended, entry.offset)
                self._carried[entry.stored.id] = entry.offset
        self._records.commit()
        self._forget()

    def states(self, job: str) -> bool:
        """Whether the epoch has a state of *job*, as far as entries that are still kept show it."""
        return job in self._running or job in self._ended

    def unique(self, job: str) -> str:
        """The text that no other job may have while *job* has it; "" for none."""
        return self._unique.get(job, "")

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        return self._records.read(after, jobs, limit=limit, level=level)

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        return offset >= self._carried_last(jobs) and self._records.has_all_since(offset, jobs)

    def keeps(self, job: str) -> bool:
        """Whether any record of *job* is kept, or its end, which came over from another epoch."""
        return self._records.keeps(job) or job in self._ended

    def _note(self, job: str, ended: bool, offset: int) -> None:
        self._ended.pop(job, None)  # the order is that of the ends, also where a state came before the records
        if ended:
            self._running.discard(job)
            self._ended[job] = offset
        else:
            self._running.add(job)

    def _carried_last(self, jobs: Collection[str] | None) -> int:
        """The offset at which a state of *jobs* was last carried over, if the copy reaches back to before it, or 0."""
        if not self._carried:
            return 0
        if jobs is None:
            return next(reversed(self._carried.values()))
        return max((self._carried.get(job, 0) for job in jobs), default=0)

    def _forget(self) -> None:
        """Jobs that ended before what is kept are removed by `tidy`, or will be."""
        while self._ended and next(iter(self._ended.values())) <= self.trimmed_to:
            job = next(iter(self._ended))
            del self._ended[job]
            self._unique.pop(job, None)
        while self._carried and next(iter(self._carried.values())) <= self.trimmed_to:
            del self._carried[next(iter(self._carried))]
