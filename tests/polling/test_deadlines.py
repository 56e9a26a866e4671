"""A deadline that passes while nobody could ask ends no job unasked, and a clock that was set ends none at all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Cancelled, Checking, Done, Failed, Progress, Received
from relay.jobs import Job
from relay.jobs.observations import Observation, Result
from relay.journal import SqliteJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep, TwoStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
QUEUED = Observation(status="queued")
DOWN = UpstreamError("network", "no route to the host")
REFUSED = UpstreamError("auth", "the upstream answered 401")

MINUTES = 60.0
YEARS = 10 * 365 * 86_400.0

Said = Observation | UpstreamError | None
Make = Callable[[Callable[[], Said], ManualClock], OneStep]


class Jumping(ManualClock):
    """A clock that goes on while nobody is woken, and whose time of day can be set."""

    offset = timedelta(0)

    def now(self) -> Any:
        return super().now() + self.offset

    def suspend(self, seconds: float) -> None:
        self._elapsed += seconds

    def set(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


def singles(said: Callable[[], Said], clock: ManualClock) -> OneStep:
    async def answer(_: str) -> Any:
        await clock.sleep(0.05)
        return said()

    return Items(answer, clock)


def one_list(said: Callable[[], Said], _: ManualClock) -> OneStep:
    return OneStep(_listing(said))


def two_lists(said: Callable[[], Said], _: ManualClock) -> OneStep:
    """What has ended has left the list: its result is elsewhere."""

    def pending(tasks: Sequence[str]) -> Mapping[str, Observation] | Exception:
        return {} if said() is FINISHED else _listing(said)(tasks)

    def results(tasks: Sequence[str]) -> Mapping[str, Observation]:
        return dict.fromkeys(tasks, FINISHED) if said() is FINISHED else {}

    return TwoStep(pending, results)


def _listing(said: Callable[[], Said]) -> Callable[[Sequence[str]], Mapping[str, Observation] | Exception]:
    def script(tasks: Sequence[str]) -> Mapping[str, Observation] | Exception:
        answer = said()
        return answer if isinstance(answer, Exception) else {} if answer is None else dict.fromkeys(tasks, answer)

    return script


KINDS = pytest.mark.parametrize("make", [singles, one_list, two_lists])


@pytest.fixture
async def clock() -> Jumping:
    return Jumping(auto=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


class World:
    """An upstream that goes on by itself, and the records of what the relay made of it."""

    def __init__(self, make: Make, clock: Jumping, path: Path) -> None:
        self.now: Said = RUNNING
        self.records: list[Record] = []
        self._make, self._clock, self._path = make, clock, path

    def relay(self, pace: Pace | None = None) -> Relay:
        """A relay on the journal, as after a start."""
        upstream = self._make(lambda: self.now, self._clock)
        paces = {} if pace is None else {"scripted": pace}
        journal = SqliteJournal(self._path)
        return Relay([upstream], sinks=[self.records.append], journal=journal, clock=self._clock, paces=paces)

    def polls_since(self, moment: datetime) -> int:
        """By their own times: a record that the journal gathers with others arrives after the clock has gone on."""
        return sum(isinstance(record.event, Checking) and record.at >= moment for record in self.records)


@pytest.fixture
def world(make: Make, clock: Jumping, path: Path) -> World:
    return World(make, clock, path)


async def over(relay: Relay, job: Job, clock: ManualClock, within: float) -> None:
    """Return when *job* has ended, or after *within* seconds."""
    end = clock.monotonic() + within
    while not job.ended and clock.monotonic() < end:
        await clock.sleep(0.5)


@KINDS
async def test_a_job_that_ended_while_the_relay_was_down_for_longer_than_its_deadline_is_done(
    world: World, clock: Jumping
) -> None:
    async with world.relay() as first:
        first.follow("scripted", "t")
        await clock.sleep(10)
    world.now = FINISHED
    clock.suspend(26 * MINUTES)
    async with world.relay() as second:
        (job,) = second.jobs()
        await over(second, job, clock, 10)

    assert isinstance(job.state.terminal, Done)


@KINDS
async def test_a_job_that_still_runs_after_that_ends_with_the_first_answer_that_says_so(
    world: World, clock: Jumping
) -> None:
    async with world.relay() as first:
        first.follow("scripted", "t")
        await clock.sleep(10)
    clock.suspend(26 * MINUTES)
    down = len(world.records)
    async with world.relay() as second:
        (job,) = second.jobs()
        await over(second, job, clock, 10)

    assert job.state.terminal == Failed(kind="timeout", message="not finished within 25 minutes", retryable=True)
    assert [type(record.event) for record in world.records[down:]] == [Checking, Received, Progress, Failed]


@KINDS
async def test_a_job_that_ended_while_the_process_was_stopped_is_done(world: World, clock: Jumping) -> None:
    """SIGSTOP and SIGCONT, a loop that was held, a machine whose monotonic clock goes on while it is suspended."""
    async with world.relay() as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(11)
        world.now = FINISHED
        clock.suspend(26 * MINUTES)
        await over(relay, job, clock, 10)

    assert isinstance(job.state.terminal, Done)


@KINDS
async def test_a_machine_that_has_no_network_yet_when_it_is_woken_ends_no_job(world: World, clock: Jumping) -> None:
    async with world.relay() as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(11)
        world.now = DOWN
        clock.suspend(26 * MINUTES)
        await clock.sleep(3)
        assert not job.ended
        world.now = FINISHED
        await over(relay, job, clock, 10)

    assert isinstance(job.state.terminal, Done)


@KINDS
async def test_a_job_that_cannot_be_asked_for_after_that_ends_after_some_tries(world: World, clock: Jumping) -> None:
    async with world.relay() as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(11)
        world.now = DOWN
        clock.suspend(26 * MINUTES)
        down = clock.now()
        await over(relay, job, clock, 60)

    assert job.state.terminal == Failed(
        kind="timeout", message="not finished within 25 minutes, and the last 3 polls failed", retryable=True
    )
    assert world.polls_since(down) == 3


@KINDS
async def test_a_status_that_lasted_too_long_while_the_relay_was_down_ends_a_job_only_if_it_still_lasts(
    world: World, clock: Jumping
) -> None:
    pace, world.now = Pace(deadlines={"queued": 60.0, "running": 60.0}), QUEUED
    async with world.relay(pace) as first:
        for _ in range(2):
            first.follow("scripted", "t")
            await clock.sleep(5)
    clock.suspend(5 * MINUTES)
    world.now = RUNNING
    async with world.relay(pace) as second:
        (job,) = second.jobs()
        await clock.sleep(50)
        assert not job.ended, "it has come to another status"
        await over(second, job, clock, 20)

    assert job.state.terminal == Failed(kind="timeout", message="still running after 1 minute", retryable=True)


@pytest.mark.parametrize("make", [singles, one_list])
async def test_how_long_a_job_has_had_its_status_is_known_after_a_restart(world: World, clock: Jumping) -> None:
    """It began to run at 30 s, the relay was started anew at 40 s, and 60 s of running are allowed."""
    pace, world.now = Pace(deadlines={"running": 60.0}), QUEUED
    async with world.relay(pace) as first:
        first.follow("scripted", "t")
        await clock.sleep(29.5)
        world.now = RUNNING
        await clock.sleep(10.5)
    async with world.relay(pace) as second:
        (job,) = second.jobs()
        await clock.sleep(47)
        assert not job.ended
        await over(second, job, clock, 8)

    assert job.state.terminal == Failed(kind="timeout", message="still running after 1 minute", retryable=True)


@pytest.mark.parametrize("make", [singles, one_list])
@pytest.mark.parametrize("jump", [60 * MINUTES, -60 * MINUTES])
async def test_the_limit_of_a_status_runs_on_a_clock_that_nobody_sets(
    world: World, clock: Jumping, jump: float
) -> None:
    """It began to run at 30 s, the time of day was set before and after, and 60 s of running are allowed."""
    world.now = QUEUED
    async with world.relay(Pace(deadlines={"queued": 100.0, "running": 60.0})) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(20)
        clock.set(jump)
        await clock.sleep(9.5)
        world.now = RUNNING
        await clock.sleep(20)
        clock.set(jump)
        await clock.sleep(37)
        assert not job.ended
        await over(relay, job, clock, 8)

    assert job.state.terminal == Failed(kind="timeout", message="still running after 1 minute", retryable=True)


@pytest.mark.parametrize("said", [RUNNING, DOWN])
async def test_a_job_that_is_cancelled_during_its_last_poll_ends_once_and_breaks_nothing_off(
    clock: Jumping, said: Observation | UpstreamError
) -> None:
    """Its new status has no limit of its own."""
    polled = list[float]()

    async def answer(_: str) -> Observation | UpstreamError:
        polled.append(clock.monotonic())
        await clock.sleep(2)
        return said if clock.monotonic() > 60 else RUNNING

    notices = list[str]()
    pace = Pace(deadlines={"running": 60.0})
    async with Relay([Items(answer, clock)], clock=clock, paces={"scripted": pace}, notify=notices.append) as relay:
        job = relay.follow("scripted", "t")
        while not polled or polled[-1] < 62.0:
            await clock.sleep(0.5)
        await relay.cancel(job.id)
        polls = len(polled)
        await clock.sleep(20)

    assert (type(job.state.terminal), len(polled) - polls, notices) == (Cancelled, 0, [])


@KINDS
@pytest.mark.parametrize("jump", [YEARS, -YEARS])
@pytest.mark.parametrize("again", [False, True])
async def test_a_time_of_day_that_was_set_neither_ends_a_job_nor_gives_it_time(
    world: World, clock: Jumping, jump: float, again: bool
) -> None:
    """A battery that is empty, a time server that is reached later; records that bear a time in the future."""
    async with world.relay(Pace(interval=10.0)) as first:
        first.follow("scripted", "t")
        await clock.sleep(5 * MINUTES)
        if again:
            clock.set(jump)
            await clock.sleep(5 * MINUTES)
            clock.set(-jump)
        else:
            await clock.sleep(5 * MINUTES)
    clock.set(jump)
    async with world.relay(Pace(interval=10.0)) as second:
        (job,) = second.jobs()
        await clock.sleep(14 * MINUTES)
        assert not job.ended
        await over(second, job, clock, 2 * MINUTES)

    assert job.state.terminal == Failed(kind="timeout", message="not finished within 25 minutes", retryable=True)


@pytest.mark.parametrize("make", [singles])
async def test_jobs_whose_deadline_passes_in_an_outage_are_asked_for_when_it_is_over(
    world: World, clock: Jumping
) -> None:
    async with world.relay(Pace(deadline=300.0, interval=10.0)) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(20)]
        await clock.sleep(100)
        world.now = DOWN
        await clock.sleep(260)
        assert sum(job.ended for job in jobs) <= 5
        world.now = FINISHED
        await clock.sleep(90)

    ends = [type(job.state.terminal) for job in jobs]
    assert ends.count(Done) >= 15
    assert set(ends) <= {Done, Failed}


@KINDS
@pytest.mark.parametrize("trouble", [DOWN, REFUSED])
async def test_an_account_that_never_answers_again_ends_its_jobs_at_their_deadline_after_a_poll(
    world: World, clock: Jumping, trouble: UpstreamError
) -> None:
    async with world.relay(Pace(deadline=100.0)) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(3)]
        await clock.sleep(20)
        world.now = trouble
        await clock.sleep(85)

    for job in jobs:
        story = [record for record in world.records if record.job == job.id]
        assert isinstance(end := story[-1].event, Failed)
        assert (end.kind, end.message.partition(",")[0]) == ("timeout", "not finished within 100 seconds")
        (last,) = [record for record in story if isinstance(record.event, Checking)][-1:]
        assert (last.at - story[0].at).total_seconds() >= 100.0, "it was asked for when it was overdue"


@pytest.mark.parametrize("make", [singles, one_list])
async def test_a_long_interval_is_kept_also_at_the_deadline(world: World, clock: Jumping) -> None:
    async with world.relay(Pace(deadline=100.0, interval=70.0)) as relay:
        job = relay.follow("scripted", "t")
        await over(relay, job, clock, 200)

    assert job.state.updated is not None
    assert job.state.started is not None
    assert (job.state.updated - job.state.started).total_seconds() == pytest.approx(140.0, abs=0.1), "within its pace"


async def test_what_has_left_the_list_when_it_is_overdue_is_looked_for_until_it_is_lost(
    clock: Jumping, path: Path
) -> None:
    """An answer without the job does not say that it is still at work: its result may be on its way."""
    world = World(two_lists, clock, path)
    async with world.relay(Pace(deadline=60.0)) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(59)
        world.now = None
        await clock.sleep(30)
        assert not job.ended
        world.now = FINISHED
        await over(relay, job, clock, 5)

    assert isinstance(job.state.terminal, Done)


@pytest.mark.parametrize("make", [singles])
async def test_after_a_restart_overdue_jobs_are_asked_for_in_their_turns_and_not_all_at_once(
    world: World, clock: Jumping
) -> None:
    async with world.relay(Pace(interval=10.0)) as first:
        for number in range(100):
            first.follow("scripted", f"t{number}")
        await clock.sleep(15)
    clock.suspend(26 * MINUTES)
    async with world.relay(Pace(interval=10.0)) as second:
        upstream = second.upstreams["scripted"]
        assert isinstance(upstream, Items)
        await clock.sleep(12)

    per_second = [sum(at <= other < at + 1 for other, _ in upstream.times) for at, _ in upstream.times]
    assert (len(upstream.times), max(per_second) <= 12) == (100, True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
