"""A poller that dies is started again, and every job that it had is polled to its end."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus

import pytest

from relay import Pace, Relay
from relay.errors import UpstreamError
from relay.events import Done
from relay.jobs.observations import Answer, Observation, Result
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep
from tests.web.serving import serve

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
TASKS = [f"t{number}" for number in range(7)]


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Poisoned(Mapping[str, Observation]):
    """Panics when it is read, which happens in the poller itself."""

    def __getitem__(self, key: str) -> Observation:
        raise Panic("while it is read")

    def __iter__(self) -> Iterator[str]:
        return iter(TASKS)

    def __len__(self) -> int:
        return len(TASKS)


class Lists(OneStep):
    """Answers the second round with what panics in the hands of its reader, and finishes every task in the fourth."""

    def __init__(self, _: ManualClock) -> None:
        super().__init__(lambda _: {})

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.append(tuple(tasks))
        rounds = len(self.asked)
        said = Poisoned() if rounds == 2 else dict.fromkeys(tasks, FINISHED if rounds > 3 else RUNNING)
        return Answer(listed=1, tasks=said)


class Endless(Items):
    """Single tasks that all run, as far as it is not overridden."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(self._never, clock)

    async def _never(self, _: str) -> Observation:
        return RUNNING


class Singles(Endless):
    """The same, of single tasks: the ninth answer panics, and the third of each task finishes it."""

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.append(tuple(tasks))
        if len(self.asked) == 9:
            return Answer(listed=1, tasks=Poisoned())
        finished = self.asked.count(tuple(tasks)) > 2
        return Answer(listed=1, tasks=dict.fromkeys(tasks, FINISHED if finished else RUNNING))


MAKES = pytest.mark.parametrize("make", [Lists, Singles])


@MAKES
async def test_a_poller_that_dies_is_started_again_and_every_job_comes_to_its_end(
    make: Callable[[ManualClock], OneStep],
) -> None:
    clock, notices = ManualClock(auto=True), list[str]()
    async with Relay([make(clock)], clock=clock, notify=notices.append) as relay:
        jobs = [relay.follow("scripted", task) for task in TASKS]
        while not all(job.ended for job in jobs):
            await clock.sleep(1.0)
        assert relay.problems() == []

    assert {type(job.state.terminal) for job in jobs} == {Done}
    deaths = [text for text in notices if text.startswith("the poller of scripted broke off with Panic")]
    assert deaths == ["the poller of scripted broke off with Panic: while it is read; it is started again in 1 s"]


@MAKES
@pytest.mark.server
async def test_while_a_poller_is_dead_readyz_says_so(make: Callable[[ManualClock], OneStep]) -> None:
    clock = ManualClock()
    died = asyncio.Event()

    def notify(text: str) -> None:
        if "broke off with" in text:
            died.set()

    relay = Relay([make(clock)], clock=clock, notify=notify, paces={"scripted": Pace(interval=1.0)})
    async with serve(relay) as client:
        for task in TASKS:
            relay.follow("scripted", task)
        while not died.is_set():
            await clock.advance(0.25)
        async with client.get("/readyz") as response:
            dead = response.status, (await response.json())["detail"]
        await clock.advance(3.0)
        async with client.get("/readyz") as response:
            alive = response.status

    assert dead == (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the poller of scripted broke off with Panic: while it is read",
    )
    assert alive == HTTPStatus.OK


class Hangs(Endless):
    """The first answer about `slow` never comes; the first about `bad` panics in the hands of its reader."""

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.append(tuple(tasks))
        if self.asked.count(tuple(tasks)) == 1:
            if tasks == ["slow"]:
                await asyncio.Event().wait()
            return Answer(listed=1, tasks=Poisoned())
        return Answer(listed=1, tasks=dict.fromkeys(tasks, FINISHED))


async def test_a_job_that_was_being_asked_about_when_its_poller_died_is_asked_about_again() -> None:
    clock = ManualClock(auto=True)
    pace = Pace(interval=2.5, concurrency=4)
    async with Relay([Hangs(clock)], clock=clock, notify=lambda _: None, paces={"scripted": pace}) as relay:
        jobs = [relay.follow("scripted", task) for task in ("slow", "bad")]
        for _ in range(100):
            await clock.sleep(1.0)
        assert [type(job.state.terminal) for job in jobs] == [Done, Done]


class DiesInTrial(Endless):
    """Fails for every task until the account is held off; the answer to the request that tries again is a panic."""

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.append(tuple(tasks))
        if len(self.asked) <= 5:
            raise UpstreamError("server", "the upstream answered 503")
        return Answer(listed=1, tasks=Poisoned() if len(self.asked) == 6 else dict.fromkeys(tasks, FINISHED))


async def test_a_poller_that_dies_while_it_tries_whether_an_account_works_tries_again() -> None:
    clock = ManualClock(auto=True)
    async with Relay([DiesInTrial(clock)], clock=clock, notify=lambda _: None) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(5)]
        for _ in range(200):
            await clock.sleep(1.0)
        assert [type(job.state.terminal) for job in jobs] == [Done] * 5
