"""Stories for a journal to keep: records as a bus stamps them, with offsets and seqs that follow each other."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from relay.events import LEVELS, Checking, Done, Event, Level, Position, Record
from relay.journal import Journal
from relay.wire.record_json import stamp

__all__ = ["START", "Teller", "reaches"]

START = datetime(2026, 1, 1, tzinfo=UTC)


class Teller:
    """What a bus does for a journal, without jobs and sinks: it numbers, stamps and appends."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.offset = journal.head
        self.seqs: dict[str, int] = {job.id: job.state.seq for job in journal.recover()}
        self.now = START

    def say(self, job: str, event: Event | None = None) -> Record:
        """Append the next record of *job*, without a commit."""
        self.offset += 1
        seq = self.seqs[job] = self.seqs.get(job, 0) + 1
        event = event or Checking(attempt=seq, of=600)
        record = stamp(job, seq, self.now, event, Position(self.journal.epoch, self.offset))
        self.journal.append(record)
        return record

    def end(self, job: str) -> Record:
        return self.say(job, Done(urls=("https://a/b.mp4",)))

    def tell(self, jobs: Iterable[str]) -> list[Record]:
        """A record for each of *jobs*, committed as one."""
        records = [self.say(job) for job in jobs]
        self.journal.commit()
        return records

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def reaches(record: Record, level: Level) -> bool:
    """Whether readers of *level* get *record*."""
    return record.terminal or LEVELS.index(record.event.level) >= LEVELS.index(level)
