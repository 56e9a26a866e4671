"""`/v1/video/generations` of new-api, from the same jobs, and as this project's own client of new-api reads it."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from relay import Cancelled, Done, Failed, Progress, Relay
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.upstreams import NewApi
from tests.relay.scripted import TwoStep, story
from tests.web.serving import serve


@pytest.fixture
def upstream() -> TwoStep:
    return TwoStep(story({}))


@pytest.fixture
def relay(upstream: TwoStep) -> Relay:
    return Relay([upstream], clock=ManualClock(), new_job_id=iter(f"job_{n}" for n in range(9)).__next__)


@pytest.fixture
async def client(relay: Relay) -> AsyncIterator[ClientSession]:
    async with serve(relay) as served:
        yield served


BODY = {"model": "scripted", "prompt": "a cat", "duration": 5.0, "width": 512, "height": 256}


async def test_a_task_is_a_video_with_the_name_that_new_api_gives_it(client: ClientSession, upstream: TwoStep) -> None:
    created = await (await client.post("/v1/video/generations", json=BODY)).json()
    video = await (await client.get(f"/v1/videos/{created['task_id']}")).json()

    assert created == {**video, "task_id": "job_0"}
    assert (video["seconds"], video["size"]) == ("5.0", "512x256")
    assert upstream.submitted == [{"prompt": "a cat", "duration": 5.0, "width": 512, "height": 256}]


async def test_a_key_makes_one_task_and_none_of_another_route(client: ClientSession, upstream: TwoStep) -> None:
    key = {"Idempotency-Key": "k"}
    ids = [
        (await (await client.post(path, json=BODY, headers=key)).json())["id"]
        for path in ("/v1/video/generations", "/v1/video/generations", "/v1/videos")
    ]

    assert ids == ["job_0", "job_0", "job_1"]
    assert len(upstream.submitted) == 2


async def test_a_task_is_shown_in_the_envelope_of_new_api(client: ClientSession, relay: Relay) -> None:
    await client.post("/v1/video/generations", json=BODY)
    relay.bus.publish(relay.job("job_0"), Progress(percent=9, status="running"))

    assert await (await client.get("/v1/video/generations/job_0")).json() == {
        "code": "success",
        "message": "",
        "data": {
            "task_id": "job_0",
            "status": "IN_PROGRESS",
            "progress": "9%",
            "fail_reason": "",
            "result_url": "",
            "submit_time": 1_767_225_600,
            "start_time": 1_767_225_600,
            "finish_time": 0,
        },
    }


async def test_a_client_of_new_api_reads_progress_result_and_failure(client: ClientSession, relay: Relay) -> None:
    running, done, failed, cancelled = (relay.follow("scripted", f"t{number}") for number in range(4))
    relay.bus.publish(running, Progress(percent=9, status="running"))
    relay.bus.publish(done, Done(urls=("https://h.example/v.mp4",)))
    relay.bus.publish(failed, Failed(kind="upstream", message="out of memory"))
    relay.bus.publish(cancelled, Cancelled(by="caller"))
    async with NewApi(f"{str(client._base_url).rstrip('/')}/v1", "token") as reader:
        answer = await reader.observe([job.id for job in (running, done, failed, cancelled)])

    seen = {task: found for task, found in answer.tasks.items() if isinstance(found, Observation)}
    assert (seen[running.id].status, seen[running.id].percent) == ("running", 9)
    assert seen[done.id].result == Result(urls=("https://h.example/v.mp4",), media_types=("video/mp4",))
    assert [seen[job.id].failure for job in (failed, cancelled)] == [
        Failure(kind="upstream", message="out of memory [upstream_error]", retryable=True),
        Failure(kind="upstream", message="cancelled by the caller [cancelled]", retryable=True),
    ]


async def test_an_unknown_task_is_404(client: ClientSession) -> None:
    assert (await client.get("/v1/video/generations/job_x")).status == 404
