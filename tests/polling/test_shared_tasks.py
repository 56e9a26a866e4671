"""A task that several owners follow: one question of the upstream about it, and every answer for each of its jobs."""

from collections.abc import Sequence

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Checking, Done, DraftsFetch, Failed, Progress
from relay.jobs import Job
from relay.jobs.observations import Observation, Result
from relay.testing import ManualClock
from tests.relay.scripted import Items, TwoStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
ELSEWHERE = Observation(status="succeeded")
OWNERS = ("ann", "bob", "")


def seen(percent: int) -> Observation:
    return Observation(status="running", percent=percent, source="reported")


def percents(records: Sequence[Record], job: Job) -> list[int | None]:
    return [r.event.percent for r in records if r.job == job.id and isinstance(r.event, Progress)]


def of_type(records: Sequence[Record], job: Job, kind: type) -> int:
    return sum(isinstance(record.event, kind) for record in records if record.job == job.id)


async def test_a_list_is_asked_about_the_task_once_and_each_job_gets_every_observation() -> None:
    records, percent = list[Record](), iter(range(10, 20))
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, seen(next(percent))))
    clock = ManualClock()
    async with Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": Pace(interval=10)}) as relay:
        jobs = [relay.follow("scripted", "t", owner) for owner in OWNERS]
        other = relay.follow("scripted", "u", "ann")
        for _ in range(3):
            await clock.advance(10)

    assert upstream.asked == [("t", "u")] * len(upstream.asked)
    assert len(upstream.asked) >= 3
    stories = [percents(records, job) for job in (*jobs, other)]
    assert stories == [list(range(10, 10 + len(upstream.asked)))] * 4


async def test_results_are_looked_for_once_and_end_each_job() -> None:
    records, clock = list[Record](), ManualClock(auto=True)
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, ELSEWHERE), lambda tasks: dict.fromkeys(tasks, FINISHED))
    async with Relay([upstream], sinks=[records.append], clock=clock) as relay:
        jobs = [relay.follow("scripted", "t", owner) for owner in OWNERS]
        await clock.sleep(20)

    assert upstream.looked == [("t",)]
    assert [(of_type(records, job, DraftsFetch), of_type(records, job, Done)) for job in jobs] == [(1, 1)] * 3


async def test_where_each_task_is_polled_by_itself_each_job_has_its_own_polls() -> None:
    asked = 0

    async def answer(_: str) -> Observation | UpstreamError:
        nonlocal asked
        asked += 1
        return seen(9) if asked <= 2 else FINISHED

    records, clock = list[Record](), ManualClock(auto=True)
    upstream = Items(answer, clock)
    async with Relay([upstream], sinks=[records.append], clock=clock) as relay:
        jobs = [relay.follow("scripted", "t", owner) for owner in ("ann", "bob")]
        await clock.sleep(20)

    assert [percents(records, job) for job in jobs] == [[9], [9]]
    assert [of_type(records, job, Checking) for job in jobs] == [2, 2]
    assert len(upstream.asked_at("t")) == 4


async def test_a_job_that_has_ended_costs_the_other_nothing() -> None:
    records, clock = list[Record](), ManualClock(auto=True)
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, seen(9)))
    async with Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": Pace(deadline=60)}) as relay:
        anns = relay.follow("scripted", "t", "ann")
        await clock.sleep(30)
        bobs = relay.follow("scripted", "t", "bob")
        await clock.sleep(70)

    assert [type(job.state.terminal) for job in (anns, bobs)] == [Failed, Failed]
    assert of_type(records, bobs, Checking) > 20


async def test_news_of_the_task_brings_a_poll_of_each_of_its_jobs() -> None:
    async def answer(_: str) -> Observation | UpstreamError:
        return seen(9)

    records, clock = list[Record](), ManualClock()
    upstream = Items(answer, clock)
    async with Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": Pace(interval=100)}) as relay:
        jobs = [relay.follow("scripted", "t", owner) for owner in OWNERS]
        await clock.advance(100)
        before = [of_type(records, job, Checking) for job in jobs]
        relay.wake("scripted", "t")
        await clock.advance(1)
        after = [of_type(records, job, Checking) for job in jobs]

    assert [later - earlier for earlier, later in zip(before, after, strict=True)] == [1, 1, 1]
