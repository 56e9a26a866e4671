"""What callers request of a relay, where no journal has to be awaited."""

import asyncio

import pytest

from relay import BusyError, Relay, UsageError
from relay.polling.requests import at_once
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story


@pytest.fixture
async def relay() -> Relay:
    return Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())


async def test_a_request_is_finished_at_once_and_a_caller_need_not_await_it(relay: Relay) -> None:
    async with relay:
        followed = at_once(relay.requests.follow("scripted", "t"))
        submitted = at_once(relay.requests.submit("scripted", {}, key="k"))

        assert relay.jobs() == [followed, submitted]
        assert (relay.follow("scripted", "t"), relay.submit("scripted", {}, key="k")) == (followed, submitted)
        assert await relay.requests.wake("scripted", "t") is relay.wake("scripted", "t") is True


async def test_what_has_to_be_awaited_is_not_finished_at_once() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("closed")

    with pytest.raises(UsageError, match="has to be awaited"):
        at_once(waits())
    assert ended == ["closed"]


async def test_a_request_that_is_refused_leaves_no_job_and_may_be_made_again(relay: Relay) -> None:
    admitted: list[str] = []

    def refuse(job: str) -> None:
        admitted.append(relay.job(job).id)
        raise BusyError("not now")

    async with relay:
        for request in (
            relay.requests.follow("scripted", "t", admit=refuse),
            relay.requests.submit("scripted", {}, key="k", admit=refuse),
        ):
            with pytest.raises(BusyError, match="not now"):
                await request
        left = relay.jobs()
        job = await relay.requests.submit("scripted", {}, key="k", admit=admitted.append)

        assert (left, relay.jobs(), len(admitted), admitted[-1]) == ([], [job], 3, job.id)


async def test_requests_for_one_thing_that_are_made_at_once_are_one_job(relay: Relay) -> None:
    started: list[str] = []
    async with relay:
        jobs = await asyncio.gather(
            *(relay.requests.submit("scripted", {}, key="k", admit=started.append) for _ in range(5)),
            *(relay.requests.follow("scripted", "t", admit=started.append) for _ in range(5)),
        )

    assert (len(set(jobs)), sorted(started)) == (2, sorted({job.id for job in jobs}))
