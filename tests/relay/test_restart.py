"""A relay that is started again on its journal: jobs go on by themselves, once each, and nothing is submitted twice."""

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay import Record, Relay
from relay.errors import UpstreamError
from relay.events import Accepted, Done, Failed, Log, Position
from relay.jobs import Job, JobState, evolve, recall
from relay.jobs.observations import Observation, Result
from relay.journal import SqliteJournal
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from relay.wire.record_json import stamp
from tests.relay.scripted import RUNNING, OneStep, TwoStep, story

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
INPUT = {"prompt": "[gap] a cat"}


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


async def heard(relay: Relay, *jobs: Job, until: int | None = None) -> None:
    """Return when the end of every one of *jobs* was heard, or a seq from *until* on."""
    over = asyncio.Event()
    left = {job.id for job in jobs}

    def watch(record: Record) -> None:
        if record.terminal or (until is not None and record.seq >= until):
            left.discard(record.job)
        if not left:
            over.set()

    with relay.bus.subscribe(watch, jobs, after=0):
        await over.wait()


def stories(path: Path) -> dict[str, list[Record]]:
    with closing(SqliteJournal(path)) as journal:
        told: dict[str, list[Record]] = {}
        for record in journal.read(0, limit=10_000):
            told.setdefault(record.job, []).append(record)
    return told


@pytest.mark.server
async def test_jobs_go_on_where_they_were_without_a_hole_and_end_once(path: Path, clock: ManualClock) -> None:
    async with ScriptedUpstream(clock=clock) as upstream:

        def relay_on(journal: SqliteJournal) -> Relay:
            return Relay([Sora(upstream.url, upstream.token, clock=clock)], journal=journal, clock=clock)

        async with relay_on(SqliteJournal(path)) as first:
            ended = first.submit("sora", {"prompt": "[violation] a cat"})
            await heard(first, ended)
            jobs = [first.submit("sora", INPUT, key="k"), first.follow("sora", upstream.add_task("reappears"))]
            await heard(first, *jobs, until=15)
        left = {job.id: (job.state.seq, job.ended) for job in first.jobs()}

        async with relay_on(SqliteJournal(path)) as second:
            assert {job.id: (job.state.seq, job.ended) for job in second.jobs()} == left
            assert second.submit("sora", INPUT, key="k").id == jobs[0].id
            assert second.follow("sora", jobs[1].state.task or "").id == jobs[1].id
            await heard(second, *second.jobs())
            final = {job.id: job.state for job in second.jobs()}

    assert [left[job.id][1] for job in (ended, *jobs)] == [True, False, False]
    assert upstream.requests["nf/create"] == 2
    assert len(upstream.tasks) == 3
    told = stories(path)
    for job, records in told.items():
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        assert [record.terminal for record in records] == [False] * (len(records) - 1) + [True]
        assert recall(records) == final[job]
    assert {type(final[job.id].terminal) for job in jobs} == {Done}


async def test_a_submission_under_way_when_the_relay_was_killed_is_told_as_lost_and_not_repeated(
    path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    under_way = asyncio.Event()

    class Hanging(TwoStep):
        async def submit(self, input: Mapping[str, Any]) -> str:
            self.submitted.append(input)
            under_way.set()
            await asyncio.Event().wait()
            return "never"

    left = tmp_path / "left.db"
    async with Relay([Hanging(story({}))], journal=SqliteJournal(path), clock=clock, submit_grace=0.0) as killed:
        job = killed.submit("scripted", INPUT, key="k")
        await under_way.wait()
        # What a kill at this moment leaves behind.
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{left}{ending}")

    upstream = TwoStep(story({}))
    async with Relay([upstream], journal=SqliteJournal(left), clock=clock) as relay:
        again = relay.submit("scripted", INPUT, key="k")
        assert (again.id, again.state.seq) == (job.id, 2)
    assert again.state.terminal == Failed(
        kind="lost", message="the relay stopped while submitting; whether the upstream took the job is not known"
    )
    assert (upstream.submitted, upstream.asked) == ([], [])
    assert [record.event.type for record in stories(left)[job.id]] == ["accepted", "failed"]


class Finding(TwoStep):
    """Finds what was submitted by the id of our job; each look is answered with the next of *found*."""

    def __init__(self, *found: str | UpstreamError | None) -> None:
        super().__init__(story({"task_1": RUNNING}))
        self.found = list(found)
        self.references: list[str] = []

    def with_reference(self, input: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        return {"reference": reference, **input}

    async def find_submitted(self, reference: str) -> str | None:
        self.references.append(reference)
        found = self.found.pop(0) if self.found else None
        if isinstance(found, UpstreamError):
            raise found
        return found


@pytest.mark.parametrize(
    ("found", "looks", "task"),
    [
        (["task_1"], 1, "task_1"),
        ([None, "task_1"], 2, "task_1"),
        ([None, None, "task_1"], 2, None),
        ([UpstreamError("server", "503"), "task_1"], 2, "task_1"),
        ([UpstreamError("server", "503")] * 4, 4, None),
        (["x" * 10_000], 1, None),
    ],
)
async def test_a_submission_that_broke_off_is_adopted_where_the_upstream_finds_its_task(
    path: Path, clock: ManualClock, found: list[str | UpstreamError | None], looks: int, task: str | None
) -> None:
    with closing(SqliteJournal(path)) as journal:
        record = stamp("job_1", 1, clock.now(), Accepted(upstream="scripted"), Position(journal.epoch, 1))
        journal.append(record, evolve(JobState(), record))
        journal.commit()
    upstream = Finding(*found)
    async with Relay([upstream], journal=SqliteJournal(path), clock=clock) as relay:
        job = relay.job("job_1")
        await clock.sleep(60)
        again = relay.submit("scripted", {"prompt": "a cat"})
        await clock.sleep(1)

        assert (job.state.task, job.ended) == (task, task is None)
        assert upstream.references == ["job_1"] * looks
        assert upstream.submitted == [{"prompt": "a cat", "reference": again.id}]


async def test_what_the_journal_could_not_take_is_told_as_soon_as_it_can_though_nothing_new_comes(
    path: Path, clock: ManualClock
) -> None:
    notices: list[str] = []
    said = asyncio.Event()

    def notify(text: str) -> None:
        notices.append(text)
        said.set()

    upstream = OneStep(story({"t": FINISHED}))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        relay = Relay([upstream], journal=SqliteJournal(path), clock=clock, notify=notify)
        async with relay:
            job = relay.follow("scripted", "t")
            other.execute("BEGIN IMMEDIATE")
            await said.wait()
            while not relay.bus.pending(job).ended:
                await clock.sleep(1.0)
            assert [record.seq for record in relay.journal.read(0)] == [1]
            other.execute("ROLLBACK")
            await heard(relay, job)
            assert [record.seq for record in relay.journal.read(0)] == [1, 2, 3, 4]

    locked = f"the journal {path} is locked by another program; let that one end"
    assert notices == [f"{locked}; records wait in memory until it can be written", "the journal can be written again"]


async def test_what_the_journal_never_took_is_said_to_be_lost(path: Path, clock: ManualClock) -> None:
    notices: list[str] = []
    journal = SqliteJournal(path, notify=notices.append)
    upstream = OneStep(story({"t": RUNNING}))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with Relay([upstream], journal=journal, clock=clock, notify=notices.append) as relay:
            job = relay.follow("scripted", "t")
            other.execute("BEGIN IMMEDIATE")
            relay.bus.publish(job, Log(line="never taken"))
        other.execute("ROLLBACK")

    assert notices[1:] == [
        "the journal still cannot be written; the records that waited for it are lost",
        f"the journal {path} could not be closed in order: database is locked; nothing committed is lost",
    ]
    assert [record.event.type for record in stories(path)[job.id]] == ["accepted"]


async def test_what_still_waits_when_the_relay_is_left_is_written_then_and_sent(path: Path) -> None:
    """Both what waits for others to share a commit with it, and what waited for a journal that nobody locks now."""
    heard: list[int] = []
    relay = Relay([OneStep(story({"t": RUNNING}))], journal=SqliteJournal(path), clock=ManualClock(), sinks=[])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        async with relay:
            job = relay.follow("scripted", "t")
            relay.bus.subscribe(lambda record: heard.append(record.seq), [job])
            other.execute("BEGIN IMMEDIATE")
            with relay.bus.batch():
                for number in range(3_000):
                    relay.bus.publish(job, Log(line=str(number)))
            other.execute("ROLLBACK")
    assert heard == list(range(2, 3_002))
    assert [record.seq for record in stories(path)[job.id]] == [1, *heard]

    async with Relay([OneStep(story({"t": RUNNING}))], journal=SqliteJournal(path), clock=ManualClock()) as relay:
        (job,) = relay.jobs()
        for number in range(3):
            with relay.bus.batch(deferrable=True):
                relay.bus.publish(job, Log(line=str(number)))
    assert [record.seq for record in stories(path)[job.id]] == list(range(1, job.state.seq + 1))
    assert job.state.seq >= 3_004


async def test_the_deadline_of_a_job_counts_from_its_beginning_also_across_a_restart(
    path: Path, clock: ManualClock
) -> None:
    def upstream() -> OneStep:
        return OneStep(story({"t": RUNNING}), deadline=100.0)

    began = clock.now()
    async with Relay([upstream()], journal=SqliteJournal(path), clock=clock) as first:
        await heard(first, first.follow("scripted", "t"), until=30)
    stopped = clock.now()
    await clock.sleep(40.0)
    async with Relay([upstream()], journal=SqliteJournal(path), clock=clock) as second:
        (job,) = second.jobs()
        await heard(second, job)

    assert began < stopped < began + timedelta(seconds=60)
    assert isinstance(end := job.state.terminal, Failed)
    assert (end.kind, job.state.updated) == ("timeout", began + timedelta(seconds=100))


async def test_a_job_whose_upstream_is_no_longer_configured_ends_with_the_reason(
    path: Path, clock: ManualClock
) -> None:
    async with Relay([OneStep(story({"t": RUNNING}))], journal=SqliteJournal(path), clock=clock) as first:
        job = first.follow("scripted", "t")
    async with Relay([], journal=SqliteJournal(path), clock=clock) as second:
        ended = second.job(job.id)

    assert ended.state.terminal == Failed(kind="internal", message="upstream 'scripted' is no longer configured")
