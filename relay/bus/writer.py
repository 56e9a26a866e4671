"""From a pending record to one that is committed and sent, and the handling of what the journal refuses."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from relay.bus.histogram import Histogram
from relay.bus.pending import Key, PendingRecord, PendingRecords
from relay.clock import Clock
from relay.errors import JournalError, UnavailableError
from relay.events import Accepted, Event, Failed, Log, Position, Record
from relay.jobs.state import Job
from relay.journal.base import Journal
from relay.notices import Notify, describe

__all__ = ["JournalWriter", "unavailable"]

Send = Callable[[Sequence[PendingRecord]], None]

RETRY_AFTER: Final = 5.0
"""Seconds after which a caller may retry what was refused because the journal could not be written."""

COMMIT_BOUNDS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
"""Seconds: a commit of one record to SQLite takes 50 us, one of a hundred 400 us, and one on a busy disk a second."""


class JournalWriter:
    """Commits pending records, oldest first, and sends each once it is committed.

    While the journal cannot be written all stay pending, and none is lost. A record that can never be stored is set
    aside: another, which can, takes its seq and its offset and says so, and all other records are stored.
    """

    def __init__(self, journal: Journal, clock: Clock, notify: Notify, send: Send) -> None:
        """*send* passes committed records to every sink; an exception from it is not caught."""
        self._journal = journal
        self.commit_delay: float = journal.commit_delay
        """How long after a commit, in seconds, the next one may be deferred."""
        self._clock = clock
        self._notify = notify
        self._send = send
        self.pending: PendingRecords = PendingRecords()
        self.commit_times: Histogram = Histogram(COMMIT_BOUNDS)
        """The seconds of each commit of records."""
        self.problem: str | None = None
        """Why the journal cannot be written, while it cannot: one sentence that says what to do."""
        self.blocked: asyncio.Event = asyncio.Event()
        """Set while the journal cannot be written."""
        self.room: asyncio.Event = asyncio.Event()
        """Set while there is room for more pending records; polling waits for it."""
        self.room.set()

    def append(
        self,
        job: Job,
        event: Event,
        *,
        key: Key | None = None,
        first: bool = False,
        answered: float | None = None,
    ) -> Record:
        """Make *event* the next record of *job*, to be committed by `write`."""
        pending = self.pending
        position = Position(self._journal.epoch, self._journal.head + len(pending) + 1)
        record = pending.append(job, event, position, self._clock.now(), key=key, first=first, answered=answered)
        if self.problem is not None:
            self._check_room()
        return record

    def write(self, count: int) -> bool:
        """Commit the *count* oldest records, and send them; return whether the journal can be written."""
        part = self.pending.oldest(count)
        try:
            self._store(part)
        except JournalError as error:
            return self._failed(str(error))
        except Exception as error:
            return self._write_one_by_one(len(part)) if part else self._failed(_unusable(error))
        self._publish(part)
        return True

    def recovered(self) -> None:
        """All that was pending is committed: if there was a problem, it is over."""
        if self.problem is not None:
            self.problem = None
            self.blocked.clear()
            self.room.set()
            self._notify("the journal can be written again")

    def check(self) -> None:
        """Check that a restart will find what is committed; until it will, that is a problem."""
        try:
            self._journal.check()
        except JournalError as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(_unusable(error))

    def _write_one_by_one(self, count: int) -> bool:
        """Find the records that cannot be stored among the *count* oldest, and replace each by one that can."""
        for _ in range(count):
            if not self.pending:
                break
            oldest = self.pending.oldest(1)
            try:
                self._store(oldest)
            except JournalError as error:
                return self._failed(str(error))
            except Exception as error:
                if not self._replace(oldest[0], error):
                    return self._failed(_unusable(error))
            else:
                self._publish(oldest)
        return True

    def _store(self, part: Sequence[PendingRecord]) -> None:
        """Commit once. An error after the commit has succeeded is a notice: nothing is stored twice."""
        journal, began = self._journal, self._clock.monotonic()
        append = journal.append
        try:
            for pending in part:
                record = pending.record
                if record.seq == 1 and pending.job.owner:
                    journal.remember_owner(pending.job.id, pending.job.owner)
                if pending.key is not None:
                    journal.remember(pending.job.id, *pending.key)
                append(record, pending.state)
            journal.commit()
        except BaseException as error:
            if not part or journal.head < part[-1].record.position.offset:
                journal.discard()
                raise
            if not isinstance(error, Exception):
                self._publish(part)
                raise
            self._notify(f"the journal has failed behind a commit that succeeded: {describe(error)}")
        if part:
            self.commit_times.observe(self._clock.monotonic() - began)

    def _publish(self, committed: Sequence[PendingRecord]) -> None:
        self.pending.remove(committed)
        if committed:
            self._send(committed)

    def _replace(self, oldest: PendingRecord, error: Exception) -> bool:
        """Set the oldest record aside, which cannot be stored; return whether its substitute could be.

        If it could not, the journal is what fails, and everything is as it was.
        """
        replaced = self.pending.with_oldest_replaced(None if oldest.first else _substitute(oldest.record, error))
        part = [] if oldest.first else replaced.oldest(1)
        before, self.pending = self.pending, replaced
        try:
            self._store(part)
        except Exception:
            self.pending = before
            return False
        self._notify(
            f"the {oldest.record.event.type!r} record of {oldest.job.id} (seq {oldest.record.seq}) cannot be stored and"
            f" is set aside: {describe(error)}"
        )
        self._publish(part)
        return True

    def _failed(self, reason: str) -> bool:
        known, self.problem = self.problem, f"{reason}; records wait in memory until it can be written"
        if known is None:
            self._notify(self.problem)
        self.blocked.set()
        self._check_room()
        return False

    def _check_room(self) -> None:
        if self.pending.full and self.room.is_set():
            self.room.clear()
            self._notify(f"{len(self.pending):,} records wait for the journal; polling pauses until it can be written")


def unavailable() -> UnavailableError:
    """The error for a caller with new work while the journal cannot be written."""
    return UnavailableError(
        "the journal cannot be written, so no new work is accepted; the same request may succeed in a few seconds",
        retry_after=RETRY_AFTER,
    )


def _unusable(error: Exception) -> str:
    return f"the journal cannot be used: {describe(error)}"


def _substitute(record: Record, error: Exception) -> Event:
    """The event in place of *record*: the end of the job, if the job cannot go on without that record."""
    what = f"a {record.event.type!r} record could not be stored ({type(error).__name__})"
    if record.terminal or isinstance(record.event, Accepted):
        return Failed(kind="internal", message=f"{what}; what the upstream has made of this job is not known")
    return Log(line=what, severity="warning")
