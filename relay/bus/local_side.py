"""A bus on a journal of this process alone: a record is committed, and then sent, within one call."""

from collections.abc import Callable, Sequence

from relay.bus.commits import CommitScheduler
from relay.bus.pending import Key, PendingRecord
from relay.bus.writer import JournalWriter, unavailable
from relay.clock import Clock
from relay.errors import UsageError
from relay.events import Event, Record
from relay.jobs.state import Job
from relay.journal.base import Journal
from relay.notices import Notify

__all__ = ["LocalSide"]


class LocalSide:
    """Publishes through *journal*; *send* is called with what is committed. Nothing in it is ever suspended."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        notify: Notify,
        send: Callable[[Sequence[PendingRecord]], None],
        sent: Callable[[bool], object],
    ) -> None:
        """*sent* is called behind each commit: see `Distributor.when_sent`."""
        self._journal = journal
        self._notify = notify
        self.writer: JournalWriter = JournalWriter(journal, clock, notify, send)
        self.commits: CommitScheduler = CommitScheduler(self.writer, clock, written=sent)

    @property
    def sent(self) -> int:
        """The newest offset of the journal: each of its records was sent."""
        return self._journal.head

    @property
    def breaks(self) -> int:
        """None: a journal of this process keeps its epoch."""
        return 0

    @property
    def problem(self) -> str | None:
        """Why the journal cannot be written at present."""
        return self.writer.problem

    def publish_first(self, job: Job, event: Event, key: Key | None) -> Record:
        """Commit the first record of *job*, also within a batch. Raises as `Bus.publish_first` does."""
        if self.writer.problem is not None:
            raise unavailable()
        record = self.writer.append(job, event, key=key, first=True)
        self.commits.flush()
        if self.writer.pending.withdraw(job):
            raise unavailable()
        if not job.state.seq:
            raise UsageError("this job cannot be stored; the operator's log says why")
        return record

    async def accept(self, job: Job, event: Event, key: Key | None, unique: str) -> Record:  # noqa: ARG002
        """The same as `publish_first`: here the registry of jobs alone decides what is unique."""
        return self.publish_first(job, event, key)

    async def settled(self, job: Job) -> None:
        """Return at once: nothing of a job waits for another process."""

    def withdraw(self, job: Job) -> None:
        """Do nothing: no other process takes over a job of this journal."""

    def check(self) -> None:
        """Check that a restart will find what is committed."""
        self.writer.check()

    async def drained(self) -> None:
        """Return when what has waited is written, or cannot be."""
        await self.commits.at_rest.wait()

    async def run(self) -> None:
        """Return at once: nothing comes from elsewhere."""

    def when_begun_anew(self, listener: Callable[[], object]) -> Callable[[], None]:  # noqa: ARG002
        """Never call *listener*: a journal of this process keeps its epoch."""
        return _nothing

    async def close(self) -> None:
        """Commit what is deferred, close the journal, and notify the operator of records that it could never store."""
        if self.writer.problem is None:
            self.commits.flush()  # its timer would find the journal closed
        if self.writer.blocked.is_set():
            self._notify("the journal still cannot be written; the records that waited for it are lost")
        self._journal.close()


def _nothing() -> None:
    pass
