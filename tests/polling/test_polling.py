"""When upstreams are asked: at each job's own time, within bounds, and gently while there is trouble."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Checking, Failed, Retrying
from relay.jobs import Job
from relay.jobs.observations import Observation, Result
from relay.journal import MemoryJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
QUEUED = Observation(status="queued")
DOWN = UpstreamError("server", "the upstream answered 503")
REFUSED = UpstreamError("auth", "the upstream answered 401")
NOT_FOUND = UpstreamError("not-found", "the upstream answered 404")

Answers = Callable[[str], Observation | UpstreamError]


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def records() -> list[Record]:
    return []


Started = Callable[[OneStep, Pace], Awaitable[Relay]]


@pytest.fixture
async def start(clock: ManualClock, records: list[Record]) -> AsyncIterator[Started]:
    """Start a relay on an upstream; it is left at the end of the test."""
    relays: list[Relay] = []

    async def enter(upstream: OneStep, pace: Pace) -> Relay:
        relays.append(Relay([upstream], sinks=[records.append], clock=clock, paces={upstream.name: pace}))
        return await relays[-1].__aenter__()

    yield enter
    for relay in relays:
        await relay.__aexit__(None, None, None)


def at_once(answers: Answers) -> Callable[[str], Awaitable[Observation | UpstreamError]]:
    async def answer(task: str) -> Observation | UpstreamError:
        return answers(task)

    return answer


def told(records: Sequence[Record], job: Job, kind: type) -> list[Record]:
    return [record for record in records if record.job == job.id and isinstance(record.event, kind)]


def gaps(times: Sequence[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


# Each job at its own time


async def test_each_job_keeps_its_own_cadence_from_when_it_came(start: Started, clock: ManualClock) -> None:
    upstream = Items(at_once(lambda _: RUNNING), clock)
    relay = await start(upstream, Pace(interval=2.5))
    relay.follow("scripted", "first")
    await clock.sleep(1)
    relay.follow("scripted", "second")
    await clock.sleep(9.4)

    assert upstream.asked_at("first") == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert upstream.asked_at("second") == [1.0, 3.5, 6.0, 8.5]


async def test_jobs_that_come_together_are_spread_over_the_interval_and_stay_so(
    start: Started, clock: ManualClock
) -> None:
    upstream = Items(at_once(lambda _: RUNNING), clock)
    relay = await start(upstream, Pace(interval=10.0))
    for number in range(10):
        relay.follow("scripted", f"t{number}")
    await clock.sleep(29.5)

    assert [at for at, _ in upstream.times] == pytest.approx(list(range(30)), abs=0.05)
    assert {len(upstream.asked_at(f"t{number}")) for number in range(10)} == {3}


async def test_a_poll_that_hangs_keeps_no_other_job_waiting(start: Started, clock: ManualClock) -> None:
    async def answer(task: str) -> Observation | UpstreamError:
        if task == "hangs":
            await clock.sleep(600)
        return RUNNING

    upstream = Items(answer, clock)
    relay = await start(upstream, Pace(interval=2.5))
    for task in ("hangs", "goes on"):
        relay.follow("scripted", task)
    await clock.sleep(30)

    assert len(upstream.asked_at("hangs")) == 1
    assert gaps(upstream.asked_at("goes on")) == [2.5] * (len(upstream.asked_at("goes on")) - 1)
    assert len(upstream.asked_at("goes on")) == 12


async def test_no_more_requests_are_under_way_than_there_may_be_connections(start: Started, clock: ManualClock) -> None:
    async def answer(task: str) -> Observation | UpstreamError:
        await clock.sleep(1)
        return RUNNING

    upstream = Items(answer, clock)
    relay = await start(upstream, Pace(interval=2.5, concurrency=3))
    for number in range(20):
        relay.follow("scripted", f"t{number}")
    await clock.sleep(60)

    assert upstream.most_under_way == 3
    assert {len(upstream.asked_at(f"t{number}")) > 6 for number in range(20)} == {True}, "all have their turn"


async def test_all_polls_of_an_account_keep_within_its_budget(start: Started, clock: ManualClock) -> None:
    upstream = Items(at_once(lambda _: RUNNING), clock)
    relay = await start(upstream, Pace(interval=2.5, requests_per_second=4.0))
    for number in range(50):
        relay.follow("scripted", f"t{number}")
    await clock.sleep(60)

    times = [at for at, _ in upstream.times]
    assert all(gap >= 0.249 for gap in gaps(times))
    assert len(times) == pytest.approx(240, abs=10)


async def test_jitter_varies_each_interval_by_a_tenth_and_no_more(start: Started, clock: ManualClock) -> None:
    upstream = Items(at_once(lambda _: RUNNING), clock)
    relay = await start(upstream, Pace(interval=10.0, jitter=0.1))
    relay.follow("scripted", "t")
    await clock.sleep(500)

    seen = gaps(upstream.asked_at("t"))
    assert all(9.0 <= gap <= 11.02 for gap in seen)
    assert len(set(seen)) > 10


async def test_what_an_answer_asks_for_is_when_the_next_poll_comes(start: Started, clock: ManualClock) -> None:
    waits = [0.0, 1.0, 7.0, 86_400.0, None, None]

    def answer(_: str) -> Observation:
        return Observation(status="running", poll_after=waits.pop(0) if waits else None)

    upstream = Items(at_once(answer), clock)
    relay = await start(upstream, Pace(interval=2.5))
    relay.follow("scripted", "t")
    await clock.sleep(75)

    assert gaps(upstream.asked_at("t"))[:5] == [0.2, 1.0, 7.0, 60.0, 2.5]


@pytest.mark.parametrize("kind", [Items, OneStep])
async def test_an_adaptive_pace_is_slow_while_a_job_is_flat_and_quick_when_it_moves_and_ends(
    start: Started, clock: ManualClock, kind: type[OneStep]
) -> None:
    percents = [10] * 9 + [20, 30, 95, 95]
    times: list[float] = []

    def answer(_: str) -> Observation:
        times.append(clock.monotonic())
        return Observation(status="running", percent=percents.pop(0) if percents else 95, source="reported")

    script = OneStep(lambda tasks: {task: answer(task) for task in tasks})
    upstream = Items(at_once(answer), clock) if kind is Items else script
    relay = await start(upstream, Pace(interval=4.0, adaptive=True, fastest=1.0, slowest=10.0))
    relay.follow("scripted", "t")
    await clock.sleep(70)

    assert gaps(times)[:12] == [2.0, 4.0, 4.0, 4.0, 4.0, 6.0, 9.0, 10.0, 10.0, 2.0, 2.0, 1.0]


async def test_a_job_ends_where_it_stays_in_one_status_for_too_long(start: Started, clock: ManualClock) -> None:
    upstream = Items(at_once(lambda task: QUEUED if task == "waits" or clock.monotonic() < 50 else RUNNING), clock)
    relay = await start(upstream, Pace(interval=2.5, deadlines={"queued": 60.0}))
    waits, works = relay.follow("scripted", "waits"), relay.follow("scripted", "works")
    await clock.sleep(300)

    assert waits.state.terminal == Failed(kind="timeout", message="still queued after 1 minute", retryable=True)
    assert waits.state.updated is not None
    assert (waits.state.updated - relay.clock.now()).total_seconds() == -240.0
    assert not works.ended


async def test_leaving_the_relay_leaves_no_request_and_no_timer_behind(clock: ManualClock) -> None:
    async def answer(task: str) -> Observation:
        await clock.sleep(3_600)
        return RUNNING

    before = asyncio.all_tasks()
    async with Relay([Items(answer, clock)], clock=clock) as relay:
        for number in range(5):
            relay.follow("scripted", f"t{number}")
        await clock.sleep(10)

    assert asyncio.all_tasks() == before


# Trouble


@pytest.mark.parametrize(("tries", "ends"), [(2, False), (3, True)])
async def test_a_task_that_is_not_found_ends_after_three_tries_in_a_row(
    start: Started, clock: ManualClock, tries: int, ends: bool
) -> None:
    left = [NOT_FOUND] * tries
    relay = await start(Items(at_once(lambda _: left.pop() if left else RUNNING), clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(60)

    message = "the upstream answered 404, 3 times in a row"
    assert job.state.terminal == (Failed(kind="not-found", message=message) if ends else None)


async def test_tries_that_are_not_in_a_row_are_counted_anew(start: Started, clock: ManualClock) -> None:
    said: list[Observation | UpstreamError] = [NOT_FOUND, NOT_FOUND, RUNNING, NOT_FOUND, DOWN, NOT_FOUND, NOT_FOUND]
    relay = await start(Items(at_once(lambda _: said.pop(0) if said else RUNNING), clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(200)

    assert not job.ended


async def test_a_list_that_is_not_found_ends_no_job(start: Started, clock: ManualClock) -> None:
    """It says nothing of any one task: the address is wrong, or the gateway is being replaced."""

    def script(_: Sequence[str]) -> Exception:
        return NOT_FOUND

    relay = await start(OneStep(script), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(600)

    assert not job.ended


class Counting(MemoryJournal):
    """Notes where its end is after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[int] = []

    def commit(self) -> None:
        super().commit()
        self.heads.append(self.head)


async def test_jobs_of_a_list_that_are_past_their_deadline_end_in_one_commit(
    clock: ManualClock, records: list[Record]
) -> None:
    journal, upstream = Counting(), OneStep(lambda tasks: dict.fromkeys(tasks, RUNNING))
    paces = {"scripted": Pace(interval=2.5, deadline=20.0)}
    async with Relay([upstream], sinks=[records.append], journal=journal, clock=clock, paces=paces) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(5)]
        await clock.sleep(60)

    ends = [record.position.offset for job in jobs for record in told(records, job, Failed)]
    assert len(ends) == 5
    assert ends == list(range(ends[0], ends[0] + 5))
    assert not set(ends[:-1]) & set(journal.heads)


async def test_nothing_is_committed_for_jobs_of_a_list_that_had_ended_before_their_deadline(clock: ManualClock) -> None:
    journal, upstream = Counting(), OneStep(lambda tasks: dict.fromkeys(tasks, RUNNING))
    async with Relay([upstream], journal=journal, clock=clock, paces={"scripted": Pace(deadline=20.0)}) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(5)]
        await clock.sleep(6)
        for job in jobs:
            await relay.cancel(job.id)
        await clock.sleep(60)
        heads = list(journal.heads)

    assert heads == sorted(set(heads)), "each commit had something to write"


@asynccontextmanager
async def followed(relay: Relay, count: int) -> AsyncIterator[list[Job]]:
    yield [relay.follow("scripted", f"t{number}") for number in range(count)]


async def test_an_outage_is_waited_out_with_one_request_at_a_time_and_no_stampede_after_it(
    start: Started, clock: ManualClock, records: list[Record]
) -> None:
    upstream = Items(at_once(lambda _: DOWN if 30 <= clock.monotonic() < 1_830 else RUNNING), clock, deadline=7_200.0)
    relay = await start(upstream, Pace(interval=10.0, deadline=7_200.0, concurrency=50))
    async with followed(relay, 100) as jobs:
        await clock.sleep(2_000)

    during = [at for at, _ in upstream.times if 30 <= at < 1_830]
    after = [at for at, _ in upstream.times if at >= 1_830]
    recovered = after[0]
    assert len(during) < 5 + 1_800 / 10, "far fewer than the 18,000 polls of 100 jobs"
    assert min(gaps(during[10:])) >= 10.0, "one at a time, and none sooner than an interval"
    assert recovered < 1_830 + 61
    per_second = [sum(at <= other < at + 1 for other in after) for at in after]
    assert max(per_second) <= 15, "100 jobs in 10 s are 10 a second"
    assert sum(recovered <= at < recovered + 21 for at, _ in upstream.times) >= 200, "all have resumed"
    assert all(told(records, job, Retrying) for job in jobs), "whoever waits says so"


async def test_a_refused_token_pauses_the_account_says_so_once_each_and_a_new_token_resumes_it(
    start: Started, clock: ManualClock, records: list[Record]
) -> None:
    upstream = Items(at_once(lambda _: REFUSED if upstream.token == "bad" else RUNNING), clock)
    relay = await start(upstream, Pace(interval=10.0))
    async with followed(relay, 20) as jobs:
        await clock.sleep(15.2)
        upstream.token = "bad"
        await clock.sleep(25)
        paused_polls = sum(at > 15 for at, _ in upstream.times)
        upstream.token = "good"
        await clock.sleep(1.1)
        resumed = upstream.times[-1][0]
        await clock.sleep(11)

    assert paused_polls == 2, "one that was refused, and a second that confirmed it"
    assert [len(told(records, job, Retrying)) for job in jobs] == [1] * 20
    assert resumed <= 41.1
    assert len({task for at, task in upstream.times if at > 40}) == 20


async def test_a_token_that_stays_refused_is_tried_slowly_by_one_job(start: Started, clock: ManualClock) -> None:
    upstream = Items(at_once(lambda _: REFUSED), clock)
    relay = await start(upstream, Pace(interval=2.5))
    async with followed(relay, 50):
        await clock.sleep(301)

    assert upstream.times[1][0] == pytest.approx(0.05), "a second one confirms it"
    assert gaps([at for at, _ in upstream.times[1:]]) == pytest.approx([30.0] * 10, abs=0.2)


async def test_one_task_that_is_forbidden_does_not_pause_the_account_for_long(
    start: Started, clock: ManualClock
) -> None:
    upstream = Items(at_once(lambda task: REFUSED if task == "t3" else RUNNING), clock)
    relay = await start(upstream, Pace(interval=10.0, deadline=10_000.0))
    async with followed(relay, 10):
        await clock.sleep(1_000)

    assert len(upstream.asked_at("t0")) > 90
    assert len(upstream.asked_at("t3")) < 40


async def test_a_list_whose_token_is_refused_says_so_once_for_each_job_and_one_tries_again(
    start: Started, clock: ManualClock, records: list[Record]
) -> None:
    class Account(OneStep):
        token = "bad"

        def token_version(self) -> object:
            return hash(self.token)

    def script(tasks: Sequence[str]) -> Exception | dict[str, Observation]:
        return REFUSED if upstream.token == "bad" else dict.fromkeys(tasks, RUNNING)

    upstream = Account(script)
    relay = await start(upstream, Pace(interval=2.5))
    async with followed(relay, 5) as jobs:
        await clock.sleep(25)
        upstream.token = "good"
        await clock.sleep(5)

    assert [len(asked) for asked in upstream.asked[:3]] == [5, 1, 5]
    assert [len(told(records, job, Retrying)) for job in jobs] == [1] * 5
    (job,) = jobs[:1]
    assert [record.at.timestamp() % 60 for record in told(records, job, Checking)][:2] == [0.0, 25.0]


async def test_a_rate_limit_that_names_a_time_holds_the_whole_account_for_it(
    start: Started, clock: ManualClock
) -> None:
    limited = [UpstreamError("rate-limit", "the upstream answered 429", retry_after=40.0)]
    upstream = Items(at_once(lambda _: limited.pop() if limited else RUNNING), clock)
    relay = await start(upstream, Pace(interval=10.0))
    async with followed(relay, 10):
        await clock.sleep(60)

    times = [at for at, _ in upstream.times]
    assert times[1] - times[0] == pytest.approx(40.0, abs=0.05)
    assert max(sum(at <= other < at + 0.9 for other in times) for at in times) <= 2
