"""What every journal promises: what it keeps is in order, and what it forgot, it knows."""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.events import LEVELS, Level, Log, Record
from relay.jobs import recall
from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from relay.testing.conformance.samples import hostile_records, sample_records
from tests.journal.awaited import AwaitedJournal
from tests.journal.redis.servers import EngineServer
from tests.journal.telling import START, Teller, reaches

Open = Callable[..., Journal]


def test_it_is_read_in_pages_by_offset_for_all_jobs_or_some(begin: Open) -> None:
    journal = begin()
    records = Teller(journal).tell("abcabcab")

    assert journal.read(0) == records
    assert journal.read(2, limit=3) == records[2:5]
    assert journal.read(0, ["b"]) == [records[1], records[4], records[7]]
    assert journal.read(2, ["a", "b"]) == [records[3], records[4], records[6], records[7]]
    assert journal.read(0, ["b", "c"], limit=3) == [records[1], records[2], records[4]]
    assert journal.read(journal.head) == []
    assert journal.read(0, ["unknown"]) == []


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_read_by_level_and_the_end_of_a_job_reaches_every_level(begin: Open, level: Level) -> None:
    journal = begin(Retention(records=30))
    teller = Teller(journal)
    lines = [Log(line="a line", severity=LEVELS[number % 4]) for number in range(20)]
    records = [teller.say("ab"[number % 3 == 0], line) for number, line in enumerate(lines)]
    records += [teller.say("a") for _ in range(20)]
    records += [teller.end("a"), teller.say("b", lines[2])]
    journal.commit()
    kept = [record for record in records[-30:] if reaches(record, level)]

    assert journal.read(0, level=level) == kept
    assert journal.read(0, ["a"], level=level) == [record for record in kept if record.job == "a"]
    assert journal.read(0, ["a", "b", "c"], level=level) == kept
    assert journal.read(15, level=level, limit=3) == [record for record in kept if record.position.offset > 15][:3]
    assert journal.read(journal.head, level=level) == []


def test_what_is_not_committed_is_read_by_nobody_and_kept_for_the_next_commit(begin: Open) -> None:
    journal = begin()
    teller = Teller(journal)
    first = teller.tell("a")
    taken = [teller.say("a"), teller.say("b")]
    assert (journal.head, journal.read(0), journal.read(0, ["b"])) == (1, first, [])
    assert journal.keeps("b")

    journal.commit()
    assert (journal.head, journal.read(0)) == (3, [*first, *taken])


def test_every_type_of_event_and_every_text_comes_back_byte_by_byte(begin: Open) -> None:
    journal = begin()
    teller = Teller(journal)
    said = [teller.say(record.job, record.event) for record in (*sample_records(), *hostile_records())]
    journal.commit()

    assert journal.read(0) == said


@pytest.mark.parametrize("keep", [Retention(records=10), Retention(bytes=10_000)], ids=["records", "bytes"])
def test_it_is_bounded_and_forgets_the_oldest_first(begin: Open, keep: Retention) -> None:
    journal = begin(keep)
    teller = Teller(journal)
    records = [record for _ in range(100) for record in teller.tell("aaaaaaa")]

    kept = list(journal.read(0))

    assert 1 < len(kept) <= keep.records
    assert sum(len(record.json) for record in kept) <= keep.bytes
    assert kept == records[-len(kept) :]
    assert (journal.head, journal.has_all_since(0), journal.has_all_since(700 - len(kept))) == (700, False, True)


def test_the_newest_record_stays_however_narrow_the_bounds(begin: Open) -> None:
    journal = begin(Retention(records=1, bytes=1))
    teller = Teller(journal)
    for job in "aab":
        teller.say(job)
    newest = teller.end("b")
    journal.commit()

    assert journal.read(0) == [newest]
    assert journal.keeps("b")


def test_a_jobs_age_counts_from_its_end_so_that_who_comes_late_still_gets_it(begin: Open) -> None:
    journal = begin(Retention(age=60))
    teller = Teller(journal)
    teller.tell("a")
    teller.wait(3_600)
    teller.tell("b")
    teller.end("a")
    teller.wait(60)
    teller.tell("b")
    assert [record.seq for record in journal.read(0, ["a"])] == [1, 2]

    teller.wait(1)
    teller.tell("b")
    assert [record.seq for record in journal.read(0, ["a"])] == [2]
    assert not journal.has_all_since(0, ["a"])


def test_a_running_job_has_no_age_and_what_lies_behind_its_records_waits_with_them(begin: Open) -> None:
    journal = begin(Retention(age=60))
    teller = Teller(journal)
    teller.tell("ab")
    teller.end("b")
    teller.wait(1_000)
    teller.tell("a")
    assert len(journal.read(0)) == 4

    teller.end("a")
    teller.wait(61)
    teller.tell("c")
    assert [record.job for record in journal.read(0)] == ["c"]
    assert (journal.keeps("a"), journal.keeps("b"), journal.keeps("c")) == (False, False, True)


def test_a_job_of_which_nothing_is_kept_is_not_taken_for_whole_when_it_goes_on(begin: Open) -> None:
    journal = begin(Retention(records=3))
    teller = Teller(journal)
    teller.tell("abbb")
    assert (journal.keeps("a"), journal.has_all_since(0, ["a"]), journal.has_all_since(1, ["a"])) == (
        False,
        False,
        True,
    )

    teller.tell("a")
    assert (journal.keeps("a"), journal.has_all_since(0, ["a"]), journal.has_all_since(1, ["a"])) == (True, False, True)


def test_of_no_jobs_there_is_nothing_to_read_and_nothing_is_missing(begin: Open) -> None:
    journal = begin(Retention(records=3))
    Teller(journal).tell("ababab")

    assert not journal.has_all_since(0)
    assert journal.has_all_since(0, ())
    assert [journal.read(after, ()) for after in (0, 2, 6)] == [[], [], []]
    assert [journal.read(0, (), level=level) for level in LEVELS] == [[]] * len(LEVELS)


def test_closing_twice_does_nothing(begin: Open) -> None:
    journal = begin()
    Teller(journal).tell("a")
    journal.close()
    journal.close()


def jobs_of_some_kind() -> st.SearchStrategy[Any]:
    return st.none() | st.sets(st.sampled_from([f"{name}{turn}" for name in "abc" for turn in (1, 2)]))


class JournalModel(RuleBasedStateMachine):
    """Against plain lists of all records ever committed, and of those that are still to be there."""

    def begin(self, keep: Retention) -> Journal:
        return MemoryJournal(keep)

    @initialize(bound=st.integers(1, 40), age=st.integers(1, 50))
    def first(self, bound: int, age: int) -> None:
        self.keep = Retention(records=bound, age=age)
        self.journal = self.begin(self.keep)
        self.teller = Teller(self.journal)
        self.turns = dict.fromkeys("abc", 1)
        self.all: list[Record] = []
        self.kept: list[Record] = []
        self.pending: list[Record] = []
        self.keys: dict[str, str] = {}
        self.pending_keys: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.pending_owners: dict[str, str] = {}

    @rule(
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
        seconds=st.integers(0, 20),
        levels=st.lists(st.sampled_from(LEVELS), min_size=1, max_size=5),
    )
    def append(self, names: list[str], seconds: int, levels: list[Level]) -> None:
        self.teller.wait(seconds)
        for number, name in enumerate(names):
            line = Log(line="a line", severity=levels[number % len(levels)])
            self.pending.append(self.teller.say(f"{name}{self.turns[name]}", line))

    @rule(name=st.sampled_from("abc"))
    def end(self, name: str) -> None:
        """The end of a job; who uses the name again means the next one."""
        self.pending.append(self.teller.end(f"{name}{self.turns[name]}"))
        self.turns[name] += 1

    @rule(name=st.sampled_from("abc"))
    def submit(self, name: str) -> None:
        job = f"{name}{self.turns[name]}"
        key = f"key {len(self.all)} of {job}"
        self.journal.remember(job, key, key.encode())
        self.pending_keys[job] = key
        self.pending.append(self.teller.say(job))

    @rule(name=st.sampled_from("abc"), owner=st.sampled_from(["ann", "bob \u65e5"]))
    def admit(self, name: str, owner: str) -> None:
        """The first record of a job that is somebody's."""
        job = f"{name}{self.turns[name]}"
        if job not in self.teller.seqs:
            self.journal.remember_owner(job, owner)
            self.pending_owners[job] = owner
            self.pending.append(self.teller.say(job))

    @precondition(lambda self: self.pending)
    @rule()
    def commit(self) -> None:
        self.journal.commit()
        self.all += self.pending
        self.kept += self.pending
        self.keys |= self.pending_keys
        self.owners |= self.pending_owners
        self.pending, self.pending_keys, self.pending_owners = [], {}, {}
        self.trim()

    def trim(self) -> None:
        ends = {record.job: record.at for record in self.all if record.terminal}
        now = self.all[-1].at if self.all else START
        while len(self.kept) > 1:
            oldest = self.kept[0].job
            age = (now - ends[oldest]).total_seconds() if oldest in ends else 0
            if len(self.kept) <= self.keep.records and age <= self.keep.age:
                break
            del self.kept[0]

    @rule(
        after=st.integers(0, 200),
        limit=st.integers(1, 30),
        jobs=jobs_of_some_kind(),
        level=st.sampled_from(LEVELS),
    )
    def read(self, after: int, limit: int, jobs: set[str] | None, level: Level) -> None:
        behind = [r for r in self.kept if r.position.offset > after and (jobs is None or r.job in jobs)]
        wanted = [record for record in behind if reaches(record, level)]

        assert list(self.journal.read(after, jobs, limit=limit, level=level)) == wanted[:limit]

    @rule(after=st.integers(0, 200), jobs=jobs_of_some_kind())
    def is_complete(self, after: int, jobs: set[str] | None) -> None:
        forgotten = self.all[: len(self.all) - len(self.kept)]
        hole = any(r.position.offset > after and (jobs is None or r.job in jobs) for r in forgotten)
        known = {r.job for r in self.kept} | {job for job in jobs or () if job[1:] == str(self.turns[job[0]])}

        complete = self.journal.has_all_since(after, jobs)
        assert not (hole and complete), "a hole must never be taken for the whole"
        if jobs is None or (jobs <= known and jobs <= {r.job for r in self.all}):
            assert complete is not hole, "nor the whole for a hole"

    @invariant()
    def counts(self) -> None:
        assert self.journal.head == len(self.all)
        assert all(self.journal.keeps(record.job) for record in self.kept)
        assert self.journal.has_all_since(self.journal.head)


class LastingModel(JournalModel):
    """The same, and across restarts."""

    @rule(bound=st.integers(1, 40))
    def restart(self, bound: int) -> None:
        """What was not committed is gone, all else is there, and each job is what its records add up to."""
        epoch, now = self.journal.epoch, self.teller.now
        self.journal.close()
        self.pending, self.pending_keys, self.pending_owners = [], {}, {}
        self.keep = Retention(records=bound, age=self.keep.age)
        self.journal = self.begin(self.keep)
        self.begun_again()
        self.teller = Teller(self.journal)
        self.teller.now = now
        assert self.journal.epoch == epoch

        ended = {record.job for record in self.all if record.terminal}
        for name in "abc":
            self.turns[name] = 1 + sum(job[0] == name for job in ended)
        there = {record.job for record in self.all} - ended | {record.job for record in self.kept}
        stories = {job: recall(record for record in self.all if record.job == job) for job in there}
        recovered = self.journal.recover()
        assert {job.id: job.state for job in recovered} == stories
        assert [job.id for job in recovered] == [job for job in dict.fromkeys(r.job for r in self.all) if job in there]
        assert {job.id: job.key for job in recovered} == {job: self.keys.get(job) for job in there}
        assert all(job.digest == (job.key or "").encode() for job in recovered)
        assert {job.id: job.owner for job in recovered} == {job: self.owners.get(job, "") for job in there}

    def begun_again(self) -> None:
        """Called once the journal is open again, with what may be another bound."""

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()


class SqliteModel(LastingModel):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def begin(self, keep: Retention) -> Journal:
        return SqliteJournal(self.folder / "relay.db", keep)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


class RedisModel(LastingModel):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.name = f"model-{secrets.token_hex(8)}"

    def begin(self, keep: Retention) -> Journal:
        return AwaitedJournal(self.url, keep, name=self.name)

    def begun_again(self) -> None:
        """Its copy is made anew within the bounds, of an engine that keeps more for nodes that are behind."""
        self.kept = list(self.all)
        self.trim()


TestMemoryModel = JournalModel.TestCase
TestMemoryModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSqliteModel = SqliteModel.TestCase
TestSqliteModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.server
@pytest.mark.redis
def test_a_journal_in_redis_is_what_plain_lists_are(shared_engine: EngineServer) -> None:
    class Model(RedisModel):
        url = shared_engine.url

    run_state_machine_as_test(Model, settings=settings(max_examples=20, stateful_step_count=30, deadline=None))
