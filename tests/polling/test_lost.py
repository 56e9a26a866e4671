"""A job is given up as lost after a time and a number of answers, however quickly the answers come."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Done, DraftsFetch, Failed
from relay.jobs import Job
from relay.jobs.observations import Observation, Result
from relay.journal import SqliteJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, TwoStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
ELSEWHERE = Observation(status="succeeded")
START = datetime(2026, 1, 1, tzinfo=UTC)

QUICK = Observation(status="running", poll_after=0.2)
"""What another job of the account asks for: each round is about all jobs."""


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


def second(record: Record) -> float:
    return (record.at - START).total_seconds()


class Followed:
    """A relay that follows a job which comes to nothing, beside one that runs."""

    def __init__(self, clock: ManualClock, *, seen: bool, two_step: bool, other: Observation = QUICK) -> None:
        self.records: list[Record] = []
        self.clock = clock
        self.listed = seen
        self.result: Observation | None = None
        self._other = other
        kind: Any = TwoStep if two_step else OneStep
        self.upstream = kind(self._pending, *([self._results] if two_step else []))

    def _pending(self, tasks: Sequence[str]) -> dict[str, Observation]:
        return {task: self._other if task == "other" else RUNNING for task in tasks if task == "other" or self.listed}

    def _results(self, tasks: Sequence[str]) -> dict[str, Observation]:
        return {task: self.result for task in tasks if self.result is not None}

    def relay(self, pace: Pace | None = None, journal: SqliteJournal | None = None) -> Relay:
        paces = {} if pace is None else {"scripted": pace}
        return Relay([self.upstream], sinks=[self.records.append], clock=self.clock, paces=paces, journal=journal)

    def of(self, job: Job, kind: type) -> list[Record]:
        return [record for record in self.records if record.job == job.id and isinstance(record.event, kind)]


QUICKER = pytest.mark.parametrize("quickly", ["poll_after", "adaptive", "news"])


async def lived(world: Followed, quickly: str, seconds: float) -> tuple[Job, Relay]:
    pace = Pace(adaptive=True, fastest=0.2, interval=0.4) if quickly == "adaptive" else Pace()
    relay = world.relay(pace)
    async with relay:
        relay.follow("scripted", "other")
        job = relay.follow("scripted", "t")
        await world.clock.sleep(0.9)
        world.listed = False
        end = world.clock.monotonic() + seconds
        while world.clock.monotonic() < end:
            await world.clock.sleep(0.2)
            if quickly == "news":
                relay.wake("scripted", "other")
    return job, relay


@QUICKER
@pytest.mark.parametrize(("seen", "two_step", "earliest"), [(True, True, 61), (True, False, 61), (False, True, 87)])
async def test_a_job_is_not_lost_before_its_time_however_quick_the_rounds_are(
    clock: ManualClock, quickly: str, seen: bool, two_step: bool, earliest: float
) -> None:
    world = Followed(clock, seen=seen, two_step=two_step, other=QUICK if quickly == "poll_after" else RUNNING)
    job, _ = await lived(world, quickly, 120)

    assert isinstance(end := job.state.terminal, Failed)
    assert end.kind == "lost"
    (lost,) = world.of(job, Failed)
    assert earliest <= second(lost) <= earliest + 10


@QUICKER
async def test_a_result_that_is_late_is_found_however_quick_the_rounds_are(clock: ManualClock, quickly: str) -> None:
    world = Followed(clock, seen=True, two_step=True, other=QUICK if quickly == "poll_after" else RUNNING)
    async with world.relay() as relay:
        relay.follow("scripted", "other")
        job = relay.follow("scripted", "t")
        await clock.sleep(0.9)
        world.listed = False
        for _ in range(250):
            await clock.sleep(0.2)
            if quickly == "news":
                relay.wake("scripted", "other")
        world.result = FINISHED
        await clock.sleep(3)

    assert isinstance(job.state.terminal, Done)


async def test_a_job_that_is_listed_as_finished_and_has_no_result_is_given_the_same_time(clock: ManualClock) -> None:
    upstream = TwoStep(lambda tasks: {task: QUICK if task == "other" else ELSEWHERE for task in tasks})
    records: list[Record] = []
    async with Relay([upstream], sinks=[records.append], clock=clock) as relay:
        job, _ = relay.follow("scripted", "t"), relay.follow("scripted", "other")
        await clock.sleep(120)

    assert isinstance(end := job.state.terminal, Failed)
    assert end.kind == "lost"
    (lost,) = [second(record) for record in records if isinstance(record.event, Failed)]
    assert 60 <= lost <= 70


async def test_looks_that_failed_are_no_looks(clock: ManualClock) -> None:
    """A list of results that cannot be read for minutes says nothing of the job; its first answer may come too soon."""
    world = Followed(clock, seen=True, two_step=True, other=RUNNING)
    down = [UpstreamError("server", "the upstream answered 500")]
    results = world._results
    world.upstream._results = lambda tasks: down[0] if down else results(tasks)
    async with world.relay(Pace(deadline=10_000.0)) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(3)
        world.listed = False
        await clock.sleep(2_000)
        down.clear()
        # Too short for 25 looks, whenever the first of them comes.
        await clock.sleep(55)
        assert len(world.of(job, DraftsFetch)) > 24
        assert not job.ended
        world.result = FINISHED
        # The first look behind the failures comes a minute later at most, whenever chance puts it.
        while not world.of(job, Done) and clock.monotonic() < 2_200:
            await clock.sleep(3)

    assert isinstance(job.state.terminal, Done)


async def test_how_long_a_job_has_been_missed_survives_a_restart(clock: ManualClock, tmp_path: Path) -> None:
    world = Followed(clock, seen=True, two_step=True)
    async with world.relay(journal=SqliteJournal(tmp_path / "relay.db")) as first:
        first.follow("scripted", "other")
        job = first.follow("scripted", "t")
        await clock.sleep(3)
        world.listed = False
        await clock.sleep(40)
    async with world.relay(journal=SqliteJournal(tmp_path / "relay.db")) as second_relay:
        job = second_relay.job(job.id)
        await clock.sleep(30)

    (lost,) = world.of(job, Failed)
    assert 65 <= second(lost) <= 70


async def test_the_time_while_the_relay_is_down_is_not_one_in_which_a_job_was_missed(
    clock: ManualClock, tmp_path: Path
) -> None:
    world = Followed(clock, seen=True, two_step=True)
    pace = Pace(deadline=1e6)
    async with world.relay(pace, SqliteJournal(tmp_path / "relay.db")) as first:
        first.follow("scripted", "other")
        job = first.follow("scripted", "t")
        await clock.sleep(3)
        world.listed = False
        await clock.sleep(3)
    await clock.sleep(36_000)
    async with world.relay(pace, SqliteJournal(tmp_path / "relay.db")) as again:
        job = again.job(job.id)
        await clock.sleep(25)
        assert not job.ended
        world.result = FINISHED
        await clock.sleep(1)

    assert isinstance(job.state.terminal, Done)


# A task that is followed, and has ended already


async def test_a_task_that_had_ended_when_it_was_followed_is_found_with_the_first_answer(clock: ManualClock) -> None:
    world = Followed(clock, seen=False, two_step=True)
    world.result = FINISHED
    async with world.relay() as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(0.1)

    assert isinstance(job.state.terminal, Done)


async def test_a_task_that_is_followed_and_not_found_is_looked_for_now_and_then_and_lost_no_sooner(
    clock: ManualClock,
) -> None:
    world = Followed(clock, seen=False, two_step=True)
    async with world.relay() as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(100)

    looks = [second(record) for record in world.of(job, DraftsFetch)]
    assert looks[:5] == [0.0, 2.5, 7.5, 17.5, 27.5]
    (lost,) = world.of(job, Failed)
    assert second(lost) >= 87.5


async def test_a_task_that_was_submitted_is_not_looked_for_before_it_may_be_listed(clock: ManualClock) -> None:
    world = Followed(clock, seen=False, two_step=True)
    async with world.relay() as relay:
        job = relay.submit("scripted", {})
        await clock.sleep(26)

    assert world.of(job, DraftsFetch) == []
