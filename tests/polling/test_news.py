"""News from an upstream brings the next poll forward, never past its bounds, and tells nothing by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Checking
from relay.jobs.observations import Observation, Result
from relay.pace import MIN_DELAY
from relay.testing import ManualClock
from relay.upstreams.base import News, Pushes
from tests.relay.scripted import RUNNING, Items, OneStep

PACE = Pace(interval=10.0)
FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
DOWN = UpstreamError("server", "the upstream answered 503", retry_after=30.0)

Answer = Callable[[], Observation | UpstreamError]
Asked = Callable[[], list[float]]


class Lists(OneStep):
    """Is asked for all tasks at once; notes when."""

    def __init__(self, answer: Answer, clock: ManualClock) -> None:
        super().__init__(lambda tasks: self._said(tasks[0]))
        self.times: list[float] = []
        self._answer = answer
        self._clock = clock

    def _said(self, task: str) -> dict[str, Observation] | Exception:
        self.times.append(self._clock.monotonic())
        said = self._answer()
        return said if isinstance(said, UpstreamError) else {task: said}


def items(answer: Answer, clock: ManualClock) -> tuple[OneStep, Asked]:
    async def one(_: str) -> Observation | UpstreamError:
        return answer()

    upstream = Items(one, clock)
    return upstream, lambda: upstream.asked_at("t")


def lists(answer: Answer, clock: ManualClock) -> tuple[OneStep, Asked]:
    upstream = Lists(answer, clock)
    return upstream, lambda: upstream.times


KINDS = pytest.mark.parametrize("kind", [items, lists])
Kind = Callable[[Answer, ManualClock], tuple[OneStep, Asked]]


@asynccontextmanager
async def following(upstream: OneStep, clock: ManualClock, records: list[Record]) -> AsyncIterator[Relay]:
    async with Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": PACE}) as relay:
        relay.follow("scripted", "t")
        await clock.advance(0)
        await clock.advance(1.0)
        yield relay


@KINDS
async def test_news_brings_a_poll_at_once_while_no_time_passes_and_the_cadence_goes_on_from_it(kind: Kind) -> None:
    clock = ManualClock()
    upstream, asked = kind(lambda: RUNNING, clock)
    async with following(upstream, clock, []) as relay:
        assert relay.wake("scripted", "t")
        await clock.advance(0)
        first = asked()[-1] - asked()[0]
        await clock.advance(12.0)
    assert (round(first, 1), [round(later - earlier) for earlier, later in pairwise(asked()[1:])]) == (1.0, [10])


@KINDS
async def test_a_flood_of_news_makes_no_more_polls_than_one_in_a_fifth_of_a_second(kind: Kind) -> None:
    clock = ManualClock()
    upstream, asked = kind(lambda: RUNNING, clock)
    async with following(upstream, clock, []) as relay:
        for _ in range(100):
            for _ in range(50):
                relay.wake("scripted", "t")
            await clock.advance(0.02)
    gaps = [round(later - earlier, 6) for earlier, later in pairwise(asked())]
    assert (min(gaps) >= MIN_DELAY, 8 <= len(asked()) <= 12) == (True, True)


@KINDS
async def test_news_that_comes_while_a_poll_is_under_way_brings_one_more(kind: Kind) -> None:
    clock = ManualClock()
    woken: list[Relay] = []

    def answer() -> Observation:
        if woken:
            woken.pop().wake("scripted", "t")
        return RUNNING

    upstream, asked = kind(answer, clock)
    async with following(upstream, clock, []) as relay:
        woken.append(relay)
        relay.wake("scripted", "t")
        await clock.advance(5.0)
    assert len(asked()) == 3


@KINDS
async def test_news_does_not_break_what_an_upstream_in_trouble_asked_for(kind: Kind) -> None:
    clock = ManualClock()
    said: list[Observation | UpstreamError] = [DOWN, RUNNING]
    upstream, asked = kind(lambda: said.pop(0) if len(said) > 1 else said[0], clock)
    async with following(upstream, clock, []) as relay:
        for _ in range(28):
            relay.wake("scripted", "t")
            await clock.advance(1.0)
        early = len(asked())
        await clock.advance(15.0)
    assert (early, [round(later - earlier) >= 30 for earlier, later in pairwise(asked()[:2])]) == (1, [True])


@KINDS
async def test_what_a_job_is_told_by_news_is_what_the_poll_says(kind: Kind) -> None:
    clock = ManualClock()
    said = [RUNNING, FINISHED]
    records: list[Record] = []
    upstream, _ = kind(lambda: said.pop(0), clock)
    async with following(upstream, clock, records) as relay:
        relay.wake("scripted", "t")
        await clock.advance(0)
        again = relay.wake("scripted", "t")
    types = [record.event.__struct_config__.tag for record in records]
    assert types == ["accepted", "checking", "received", "progress", "checking", "received", "done"]
    assert not again, "an ended job is not woken"


@KINDS
async def test_news_of_a_task_that_nobody_follows_asks_nothing(kind: Kind) -> None:
    clock = ManualClock()
    upstream, asked = kind(lambda: RUNNING, clock)
    async with following(upstream, clock, []) as relay:
        assert (relay.wake("scripted", "another"), relay.wake("nowhere", "t")) == (False, False)
        await clock.advance(1.0)
    assert len(asked()) == 1


@KINDS
async def test_waking_again_and_again_leaves_no_task_behind(kind: Kind) -> None:
    clock = ManualClock()
    before = asyncio.all_tasks()
    upstream, _ = kind(lambda: RUNNING, clock)
    async with following(upstream, clock, []) as relay:
        for _ in range(20):
            relay.wake("scripted", "t")
            await clock.advance(0.5)
    assert (asyncio.all_tasks(), clock.sleepers) == (before, 0)


async def test_an_adapter_that_can_push_is_given_whom_to_tell() -> None:
    clock = ManualClock()
    records: list[Record] = []

    class Pushing(Items):
        on_news: News | None = None

    async def one(_: str) -> Observation:
        return RUNNING

    upstream = Pushing(one, clock)
    assert isinstance(upstream, Pushes)
    async with following(upstream, clock, records):
        assert upstream.on_news is not None
        assert (upstream.on_news("t"), upstream.on_news("another")) == (True, False)
        await clock.advance(0)
    assert sum(isinstance(record.event, Checking) for record in records) == 2
