"""The records that are stamped and not committed yet, and the states that they add up to. No I/O, no clock."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from relay.events import Event, Position, Record
from relay.jobs.state import Job, JobState, evolve
from relay.wire.record_json import stamped

__all__ = ["MOST_BYTES", "MOST_RECORDS", "Key", "PendingRecord", "PendingRecords"]

Key = tuple[str, bytes]
"""The key that a job was submitted with, and the digest of its input."""

MOST_RECORDS: Final = 10_000
MOST_BYTES: Final = 16 * 1024 * 1024
"""How much may be pending before polling pauses; the records of polls that are under way then are extra."""


class PendingRecord(Struct, frozen=True, gc=False, eq=False):
    """A record that is not committed, and the state of its job after it; *key* comes with the *first* of a job.

    *answered* is when the upstream's answer came that the record follows from, on the monotonic clock.
    """

    job: Job
    record: Record
    state: JobState
    key: Key | None = None
    first: bool = False
    answered: float | None = None


class PendingRecords:
    """Records in the order of their offsets, and for each of their jobs the state after the last of them."""

    def __init__(self) -> None:
        self._records: list[PendingRecord] = []
        self._states: dict[Job, JobState] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def full(self) -> bool:
        """Whether as much is pending as may be."""
        return len(self._records) >= MOST_RECORDS or self._bytes >= MOST_BYTES

    def state(self, job: Job) -> JobState:
        """The state of *job* once all its records are committed."""
        return self._states.get(job, job.state)

    def oldest(self, count: int) -> list[PendingRecord]:
        """The *count* oldest records, or all if there are fewer. The list is not to be changed; `remove` leaves it."""
        return self._records if count >= len(self._records) else self._records[:count]

    def append(
        self,
        job: Job,
        event: Event,
        position: Position,
        at: datetime,
        *,
        key: Key | None = None,
        first: bool = False,
        answered: float | None = None,
    ) -> Record:
        """Make *event* the next record of *job*, at *position*; raises UsageError if no record can hold it."""
        states = self._states
        state = states.get(job, job.state)
        record, text = stamped(job.id, state.seq + 1, at, event, position)
        states[job] = state = evolve(state, record, text)
        self._records.append(PendingRecord(job, record, state, key, first, answered))
        self._bytes += len(record.json)
        return record

    def withdraw(self, job: Job) -> bool:
        """Remove the newest record if it is one of *job*; return whether it was."""
        if not self._records or self._records[-1].job is not job:
            return False
        self._bytes -= len(self._records.pop().record.json)
        del self._states[job]
        return True

    def remove(self, committed: Sequence[PendingRecord]) -> None:
        """Remove the oldest records, which are *committed*: the state of each job is what they made of it."""
        for pending in committed:
            pending.job.state = pending.state
        if len(committed) == len(self._records):
            self._records = []
            self._bytes = 0
            self._states.clear()
        else:
            self._records = self._records[len(committed) :]
            self._bytes -= sum(len(pending.record.json) for pending in committed)

    def with_oldest_replaced(self, substitute: Event | None) -> "PendingRecords":
        """The same records with *substitute*, or nothing, in place of the oldest, numbered without a hole.

        If *substitute* ends a job, the records that follow in that job are left out.
        """
        replaced = PendingRecords()
        epoch, offset = self._records[0].record.position.epoch, self._records[0].record.position.offset
        for number, pending in enumerate(self._records):
            event, key = (pending.record.event, pending.key) if number else (substitute, None)
            if event is not None and not replaced.state(pending.job).ended:
                position = Position(epoch, offset + len(replaced))
                replaced.append(
                    pending.job,
                    event,
                    position,
                    pending.record.at,
                    key=key,
                    first=pending.first,
                    answered=pending.answered,
                )
        return replaced
