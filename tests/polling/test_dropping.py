"""A job that is dropped is polled no longer, and a poll of it that is under way leaves nothing behind."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from relay import Job, Pace, Record, Relay
from relay.errors import UpstreamError
from relay.jobs.observations import Answer, Observation, Result
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
ELSEWHERE = Observation(status="succeeded")
REFUSED = UpstreamError("auth", "the upstream answered 401")
LIMITED = UpstreamError("rate-limit", "the upstream answered 429", retry_after=20.0)

Said = Observation | UpstreamError


class Gates:
    """The answers of an upstream: it notes when it was called, for what, and waits while *open* is not set."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.open = asyncio.Event()
        self.open.set()
        self.called: list[tuple[float, str]] = []
        self.said: Callable[[str], Said] = lambda _: RUNNING

    async def __call__(self, task: str) -> Said:
        self.called.append((self.clock.monotonic(), task))
        await self.open.wait()
        return self.said(task)

    def times(self, task: str) -> list[float]:
        return [at for at, called in self.called if called == task]


class Lists(OneStep):
    """One answer for all tasks."""

    def __init__(self, gates: Gates) -> None:
        super().__init__(lambda _: {})
        self._gates = gates

    async def observe(self, tasks: Sequence[str]) -> Answer:
        said = await asyncio.gather(*map(self._gates, tasks))
        return Answer(listed=len(tasks), tasks=dict(zip(tasks, said, strict=True)))


class Elsewhere(Items):
    """Keeps each result elsewhere."""

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        self.times.append((self._clock.monotonic(), "result"))
        return Answer(listed=1, tasks=dict.fromkeys(tasks, FINISHED))


def per_task(gates: Gates) -> OneStep:
    return Items(gates, gates.clock)


KINDS = pytest.mark.parametrize("kind", [per_task, Lists])
Kind = Callable[[Gates], OneStep]


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def gates(clock: ManualClock) -> Gates:
    return Gates(clock)


def polling(upstream: OneStep, clock: ManualClock, **pace: Any) -> Relay:
    return Relay([upstream], clock=clock, paces={"scripted": Pace(**{"interval": 10.0, **pace})})


def records_of(relay: Relay, job: Job) -> Sequence[Record]:
    return relay.journal.read(0, [job.id])


@KINDS
async def test_a_dropped_job_is_polled_no_longer_and_others_keep_their_cadence(
    kind: Kind, gates: Gates, clock: ManualClock
) -> None:
    async with polling(kind(gates), clock, jitter=0.0) as relay:
        a = relay.follow("scripted", "a")
        relay.follow("scripted", "b")
        await clock.advance(11)
        relay.let_go(a)
        relay.let_go(a)
        heard = records_of(relay, a)
        await clock.advance(40)

        assert len(gates.times("a")) == len(heard) // 3 < len(gates.times("b"))
        assert records_of(relay, a) == heard
        steps = {round(y - x, 3) for x, y in zip(gates.times("b"), gates.times("b")[1:], strict=False)}
        assert steps == {10.0}


@KINDS
async def test_a_job_that_is_dropped_before_its_first_poll_has_none(
    kind: Kind, gates: Gates, clock: ManualClock
) -> None:
    async with polling(kind(gates), clock) as relay:
        a = relay.follow("scripted", "a")
        relay.let_go(a)
        await clock.advance(60)

        assert (gates.called, [record.event.type for record in records_of(relay, a)]) == ([], ["accepted"])


@KINDS
@pytest.mark.parametrize("said", [RUNNING, FINISHED, REFUSED, UpstreamError("not-found", "404")])
async def test_a_poll_under_way_publishes_nothing_for_a_job_that_is_dropped(
    kind: Kind, gates: Gates, clock: ManualClock, said: Said
) -> None:
    gates.open.clear()
    gates.said = lambda task: said if task == "a" else RUNNING
    async with polling(kind(gates), clock) as relay:
        a = relay.follow("scripted", "a")
        b = relay.follow("scripted", "b")
        await clock.advance(10)
        relay.let_go(a)
        heard = records_of(relay, a)
        gates.open.set()
        await clock.advance(60)

        assert (records_of(relay, a), a.state.status) == (heard, "queued")
        assert b.state.status == "running"
        assert len(gates.times("a")) == 1


@KINDS
async def test_a_job_that_is_taken_up_again_is_polled_anew_and_the_old_answer_is_none(
    kind: Kind, gates: Gates, clock: ManualClock
) -> None:
    gates.open.clear()
    async with polling(kind(gates), clock) as relay:
        a = relay.follow("scripted", "a")
        await clock.advance(1)
        relay.let_go(a)
        relay.take_up(a)
        gates.said = lambda _: FINISHED if len(gates.called) > 1 else RUNNING
        gates.open.set()
        await clock.advance(60)

        kinds = [record.event.type for record in records_of(relay, a)]
        assert kinds == ["accepted", "checking", "checking", "received", "done"]


async def test_a_request_of_a_dropped_job_has_its_place_until_it_is_over(gates: Gates, clock: ManualClock) -> None:
    gates.open.clear()
    async with polling(per_task(gates), clock, concurrency=1) as relay:
        a = relay.follow("scripted", "a")
        relay.follow("scripted", "b")
        await clock.advance(1)
        relay.let_go(a)
        await clock.advance(30)
        while_under_way = [task for _, task in gates.called]
        gates.open.set()
        await clock.advance(0)
        await clock.advance(1)

        assert (while_under_way, [task for _, task in gates.called]) == (["a"], ["a", "b"])


async def test_a_result_that_waits_to_be_fetched_is_not_once_its_job_is_dropped(
    gates: Gates, clock: ManualClock
) -> None:
    gates.said = lambda _: ELSEWHERE
    upstream = Elsewhere(gates, clock)
    async with polling(upstream, clock, requests_per_second=0.5) as relay:
        a = relay.follow("scripted", "a")
        b = relay.follow("scripted", "b")
        await clock.advance(1)
        assert records_of(relay, a)[-1].event.type == "drafts-fetch", "the budget lets the result wait"
        relay.let_go(a)
        heard = records_of(relay, a)
        await clock.advance(30)

        assert (records_of(relay, a), b.ended) == (heard, True)
        assert [what for _, what in upstream.times] == ["a", "b", "result"]


async def test_a_trial_whose_job_is_dropped_still_says_that_the_account_works(gates: Gates, clock: ManualClock) -> None:
    gates.said = lambda _: LIMITED
    async with polling(per_task(gates), clock) as relay:
        jobs = [relay.follow("scripted", task) for task in "ab"]
        await clock.advance(6)
        before = len(gates.called)
        gates.open.clear()
        gates.said = lambda _: RUNNING
        await clock.advance(40)
        (tried,) = [task for _, task in gates.called[before:]]
        dropped, left = jobs if tried == "a" else jobs[::-1]
        relay.let_go(dropped)
        gates.open.set()
        await clock.advance(0)
        await clock.advance(15)

        assert left.state.status == "running"


async def test_a_trial_that_waits_for_the_budget_as_its_job_is_dropped_lets_another_job_try(
    gates: Gates, clock: ManualClock
) -> None:
    gates.said = lambda _: LIMITED
    upstream = Elsewhere(gates, clock)
    async with polling(upstream, clock, requests_per_second=0.5) as relay:
        jobs = [relay.follow("scripted", task) for task in "ab"]
        await clock.advance(6)
        before = len(gates.called)
        gates.said = lambda _: ELSEWHERE
        while len(gates.called) == before:
            await clock.advance(0.1)
        ((_, tried),) = gates.called[before:]
        dropped, left = jobs if tried == "a" else jobs[::-1]
        assert records_of(relay, dropped)[-1].event.type == "drafts-fetch", "the budget lets the result wait"
        relay.let_go(dropped)
        await clock.advance(60)

        assert (dropped.ended, left.ended) == (False, True)


async def test_a_refused_token_is_looked_at_also_once_the_jobs_that_met_the_refusal_are_dropped(
    gates: Gates, clock: ManualClock
) -> None:
    gates.said = lambda _: REFUSED
    upstream = Items(gates, clock)
    async with polling(upstream, clock, interval=6.0) as relay:
        jobs = [relay.follow("scripted", task) for task in "abc"]
        await clock.advance(3)
        met = {task for _, task in gates.called}
        assert len(met) == 2, "two refusals are the account's"
        for job in jobs:
            if job.state.task in met:
                relay.let_go(job)
        upstream.token, gates.said = "second", lambda _: RUNNING
        await clock.advance(1)
        await clock.advance(7)

        assert [job.state.status for job in jobs if job.state.task not in met] == ["running"]


async def test_jobs_that_are_dropped_all_leave_no_timer_that_looks_at_the_token(
    gates: Gates, clock: ManualClock
) -> None:
    gates.said = lambda _: REFUSED
    async with polling(per_task(gates), clock) as relay:
        jobs = [relay.follow("scripted", task) for task in "ab"]
        await clock.advance(6)
        for job in jobs:
            relay.let_go(job)
        await clock.advance(120)

        assert clock.sleepers == 0


@KINDS
async def test_no_request_is_made_for_jobs_that_are_dropped_while_too_many_records_wait(
    kind: Kind, gates: Gates, clock: ManualClock
) -> None:
    async with polling(kind(gates), clock) as relay:
        a = relay.follow("scripted", "a")
        relay.bus.room.clear()
        await clock.advance(1)
        relay.let_go(a)
        relay.bus.room.set()
        await clock.advance(1)
        polled = list(gates.called)
        relay.take_up(a)
        await clock.advance(20)

        assert (polled, a.state.status) == ([], "running")
