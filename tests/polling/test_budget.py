"""A budget of requests a second holds for every request, and an interval for every upstream."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from relay import Pace, Relay
from relay.errors import UpstreamError
from relay.jobs.observations import Answer, Observation, Result
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
ELSEWHERE = Observation(status="succeeded")
DOWN = UpstreamError("server", "the upstream answered 503")


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


class Elsewhere(Items):
    """Keeps each result elsewhere, so that each job takes two requests."""

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        self.times.append((self._clock.monotonic(), "result"))
        return Answer(listed=1, tasks=dict.fromkeys(tasks, FINISHED))


class FollowingUp(Items):
    """Makes three requests of its own for each poll, and takes submissions."""

    requests = 0

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.requests += 3
        return await super().observe(tasks)

    async def submit(self, input: Mapping[str, Any]) -> str:
        self.requests += 1
        return str(input["id"])


async def test_looks_for_results_are_within_the_budget(clock: ManualClock) -> None:
    async def answer(_: str) -> Observation:
        return ELSEWHERE

    upstream = Elsewhere(answer, clock)
    async with Relay([upstream], clock=clock, paces={"scripted": Pace(requests_per_second=2.0)}) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(40)]
        await clock.sleep(60)

    times = [at for at, _ in upstream.times]
    assert len(times) == 80
    assert min(later - earlier for earlier, later in zip(times, times[1:], strict=False)) >= 0.499  # noqa: RUF007
    assert all(job.ended for job in jobs)


async def test_what_an_adapter_asks_besides_is_within_the_budget(clock: ManualClock) -> None:
    async def answer(_: str) -> Observation:
        return RUNNING

    upstream = FollowingUp(answer, clock)
    async with Relay([upstream], clock=clock, paces={"scripted": Pace(requests_per_second=6.0)}) as relay:
        for number in range(60):
            relay.submit("scripted", {"id": f"t{number}"})
        await clock.sleep(100)

    assert 500 <= upstream.requests <= 6 * 100 + 63


@pytest.mark.parametrize("kind", [OneStep, Items])
async def test_no_upstream_is_polled_quicker_than_an_interval_that_was_made_longer(
    clock: ManualClock, kind: type[OneStep]
) -> None:
    times: list[float] = []

    def said() -> Observation | UpstreamError:
        times.append(clock.monotonic())
        return DOWN if 100 < clock.monotonic() < 700 else Observation(status="running", poll_after=0.2)

    async def answer(_: str) -> Observation | UpstreamError:
        return said()

    def script(tasks: Sequence[str]) -> Any:
        told = said()
        return told if isinstance(told, Exception) else dict.fromkeys(tasks, told)

    upstream = Items(answer, clock) if kind is Items else OneStep(script)
    async with Relay([upstream], clock=clock, paces={"scripted": Pace(interval=90.0)}) as relay:
        relay.follow("scripted", "t")
        await clock.sleep(1_400)

    assert [round(later - earlier, 1) for earlier, later in zip(times, times[1:], strict=False)] == [90.0] * 15  # noqa: RUF007
