"""The journal in memory: what it keeps, in order; what it forgot, it knows."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.codec import stamp
from relay.events import Checking, Position, Record
from relay.journal import Keep, MemoryJournal
from relay.journal.memory import CUT_AT

START = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = ("a", "b", "c")


def record(job: str, seq: int, offset: int, at: datetime = START) -> Record:
    return stamp(job, seq, at, Checking(attempt=seq, of=600), Position("e", offset))


def fill(journal: MemoryJournal, jobs: Iterable[str]) -> list[Record]:
    seqs: dict[str, int] = {}
    records = []
    for job in jobs:
        seqs[job] = seqs.get(job, 0) + 1
        records.append(record(job, seqs[job], journal.head + 1))
        journal.append(records[-1])
    return records


def test_it_is_read_in_pages_by_offset_for_all_jobs_or_some() -> None:
    journal = MemoryJournal()
    records = fill(journal, "abcabcab")

    assert journal.read(0) == records
    assert journal.read(2, limit=3) == records[2:5]
    assert journal.read(0, ["b"]) == [records[1], records[4], records[7]]
    assert journal.read(2, ["a", "b"]) == [records[3], records[4], records[6], records[7]]
    assert journal.read(journal.head) == []
    assert journal.read(0, ["unknown"]) == []


@pytest.mark.parametrize("keep", [Keep(records=10), Keep(bytes=10_000)])
def test_it_is_bounded_and_forgets_the_oldest_first(keep: Keep) -> None:
    journal = MemoryJournal(keep)
    records = fill(journal, ["a"] * 5_000)

    kept = journal.read(0)

    assert 1 < len(kept) <= 12
    assert kept == records[-len(kept) :]
    assert journal.head == 5_000


def test_it_forgets_what_is_too_old_but_never_the_newest() -> None:
    journal = MemoryJournal(Keep(age=60))
    journal.append(record("a", 1, 1, START))
    journal.append(record("a", 2, 2, START + timedelta(seconds=30)))
    journal.append(record("a", 3, 3, START + timedelta(seconds=61)))

    assert [kept.seq for kept in journal.read(0)] == [2, 3]


def test_a_job_of_which_nothing_is_kept_is_not_taken_for_whole_when_it_goes_on() -> None:
    journal = MemoryJournal(Keep(records=3))
    fill(journal, "abbb")
    assert not journal.keeps("a")
    assert not journal.complete(0, ["a"])

    journal.append(record("a", 2, 5))

    assert journal.keeps("a")
    assert not journal.complete(0, ["a"])
    assert journal.complete(4, ["a"])


class JournalModel(RuleBasedStateMachine):
    """Against a plain list of all records ever written."""

    @initialize(bound=st.integers(1, 40))
    def begin(self, bound: int) -> None:
        self.bound = bound
        self.journal = MemoryJournal(Keep(records=bound))
        self.all: list[Record] = []

    @rule(jobs=st.lists(st.sampled_from(JOBS), min_size=1, max_size=20))
    def append(self, jobs: list[str]) -> None:
        for job in jobs:
            seq = sum(earlier.job == job for earlier in self.all) + 1
            self.all.append(record(job, seq, len(self.all) + 1))
            self.journal.append(self.all[-1])

    @rule(
        after=st.integers(0, 200), limit=st.integers(1, 30), jobs=st.none() | st.sets(st.sampled_from(JOBS), min_size=1)
    )
    def read(self, after: int, limit: int, jobs: set[str] | None) -> None:
        kept = self.all[-self.bound :]
        wanted = [r for r in kept if r.position.offset > after and (jobs is None or r.job in jobs)]

        assert list(self.journal.read(after, jobs, limit=limit)) == wanted[:limit]

    @rule(after=st.integers(0, 200), jobs=st.none() | st.sets(st.sampled_from(JOBS), min_size=1))
    def is_complete(self, after: int, jobs: set[str] | None) -> None:
        forgotten = self.all[: -self.bound]
        hole = any(r.position.offset > after and (jobs is None or r.job in jobs) for r in forgotten)

        complete = self.journal.complete(after, jobs)
        assert not (hole and complete), "a hole must never be taken for the whole"
        if jobs is None:
            assert complete is not hole

    @invariant()
    def counts(self) -> None:
        assert self.journal.head == len(self.all)


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_dropping_from_the_front_survives_the_cut() -> None:
    journal = MemoryJournal(Keep(records=5))
    records = fill(journal, ["a"] * (CUT_AT + 50))

    assert journal.read(0) == records[-5:]
    assert journal.read(CUT_AT + 47) == records[-3:]
