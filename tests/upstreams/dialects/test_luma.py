"""Luma's generations are read as they are really sent; its own client takes what the scripted server sends."""

import json

import lumaai
import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock, ScriptedLuma
from relay.upstreams import Cancels, FetchesResults, Luma, Submits, Upstream
from tests.upstreams.stub import Stub, reply


async def seen(**generation: object) -> Observation | UpstreamError:
    body = json.dumps({"id": "g", "state": "dreaming", **generation})
    async with Stub(reply(body)) as stub, Luma(f"{stub.url}/dream-machine/v1", "canary-1") as upstream:
        answer = (await upstream.observe(["g"])).tasks["g"]
    assert stub.paths == ["/dream-machine/v1/generations/g"]
    return answer


async def observed(**generation: object) -> Observation:
    answer = await seen(**generation)
    assert isinstance(answer, Observation), answer
    return answer


def test_it_submits_and_neither_cancels_nor_keeps_results_elsewhere() -> None:
    upstream = Luma("https://api.lumalabs.ai/dream-machine/v1", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, True, False, False]


@pytest.mark.parametrize(
    ("word", "status"), [("queued", "queued"), ("dreaming", "running"), ("waking", "unknown"), ("", "unknown")]
)
async def test_a_generation_goes_on_and_tells_no_percent(word: str, status: str) -> None:
    assert await observed(state=word, assets=None) == Observation(status=status, raw_status=word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("assets", "result"),
    [
        (
            {"video": "https://r/a.mp4", "image": None, "progress_video": "https://r/p.mp4"},
            Result(urls=("https://r/a.mp4",), media_types=("video/mp4",)),
        ),
        ({"image": "https://r/a.jpg"}, Result(urls=("https://r/a.jpg",), media_types=("image/jpeg",))),
        (
            {"video": "https://r/a.mp4", "image": "https://r/a.jpg"},
            Result(urls=("https://r/a.mp4", "https://r/a.jpg"), media_types=("video/mp4", "image/jpeg")),
        ),
        ({"progress_video": "https://r/p.mp4"}, Result(urls=())),
        ({"video": 7}, Result(urls=())),
        (None, Result(urls=())),
    ],
)
async def test_a_result_is_the_video_and_the_image_and_not_how_it_came_about(assets: object, result: Result) -> None:
    answer = await observed(state="completed", assets=assets, failure_reason=None)
    assert (answer.status, answer.result, answer.failure) == ("succeeded", result, None)


@pytest.mark.parametrize(
    ("generation", "failure"),
    [
        (
            {"state": "failed", "failure_reason": "It broke."},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
        (
            {"state": "failed", "failure_reason": "400: Prompt moderation failed"},
            Failure(kind="policy", message="400: Prompt moderation failed"),
        ),
        ({"state": "failed"}, Failure(kind="upstream", message="the upstream says 'failed'", retryable=True)),
        (
            {"state": "completed", "failure_reason": "It broke.", "assets": {"video": "https://r/a.mp4"}},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
    ],
)
async def test_a_failure_is_said_with_its_kind_and_reason(generation: dict[str, object], failure: Failure) -> None:
    answer = await observed(**generation)
    assert (answer.status, answer.failure, answer.result) == ("failed", failure, None)


@pytest.mark.parametrize(
    ("generation", "kind", "message"),
    [
        ({"state": None, "detail": "Try later."}, "refused", "the upstream tells of no generation: Try later."),
        ({"state": None}, "refused", "the upstream tells of no generation: no state"),
        (
            {"state": ["canary-2"]},
            "malformed",
            "the answer is not in this dialect: expected a text, got a list - at `$.state`",
        ),
    ],
)
async def test_what_tells_of_no_generation_is_a_failed_poll(
    generation: dict[str, object], kind: str, message: str
) -> None:
    answer = await seen(**generation)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, answer.message) == (kind, message)


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({"model": "ray-2", "prompt": "a cat"}, "/generations/video"),
        ({"model": "ray-2", "generation_type": "video"}, "/generations/video"),
        ({"model": "photon-1", "prompt": "a cat", "generation_type": "image"}, "/generations/image"),
    ],
)
async def test_a_submit_goes_to_the_kind_of_generation_it_names(input: dict[str, str], path: str) -> None:
    async with Stub(reply('{"id": "g", "state": "queued"}')) as stub, Luma(stub.url, "token") as upstream:
        assert await upstream.submit(input) == "g"
    assert (stub.paths, json.loads(stub.requests[0].partition(b"\r\n\r\n")[2])) == ([path], input)


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({"prompt": "a cat"}, "the input needs the key 'model'"),
        ({"model": "ray-2", "generation_type": "../credits"}, "unknown generation_type '../credits'"),
    ],
)
async def test_a_submit_of_what_cannot_be_is_refused_before_it_is_sent(input: dict[str, str], message: str) -> None:
    async with Stub(reply("{}")) as stub, Luma(stub.url, "token") as upstream:
        with pytest.raises(UsageError, match=message):
            await upstream.submit(input)
    assert stub.paths == []


async def test_the_official_client_takes_what_the_scripted_server_sends_from_submit_to_result() -> None:
    clock = ManualClock()
    async with (
        ScriptedLuma(clock=clock) as server,
        lumaai.AsyncLumaAI(base_url=server.url, auth_token=server.token, max_retries=0) as client,
    ):
        made = await client.generations.create(model="ray-2", prompt="a cat", resolution="720p", duration="5s")
        image = await client.generations.image.create(model="photon-1", prompt="a cat")
        assert (image.generation_type, image.state) == ("image", "queued")
        assert made.id is not None
        assert image.id is not None
        told, generation = [made.state], made
        while generation.state not in ("completed", "failed"):
            await clock.advance(10)
            generation = await client.generations.get(made.id)
            told.append(generation.state)
        assert generation.assets is not None
        assert (generation.id, generation.assets.video) == (made.id, f"{server.origin}/files/{made.id}.mp4")
        drawn = await client.generations.get(image.id)
        assert drawn.assets is not None
        assert (drawn.assets.video, drawn.assets.image) == (None, f"{server.origin}/files/{image.id}.jpg")
        await client.generations.delete(image.id)
        with pytest.raises(lumaai.NotFoundError):
            await client.generations.get(image.id)
    assert told == ["queued", "dreaming", "dreaming", "dreaming", "dreaming", "completed"]


async def test_the_official_client_understands_the_scripted_servers_failures_and_refusals() -> None:
    clock = ManualClock()
    async with (
        ScriptedLuma(clock=clock) as server,
        lumaai.AsyncLumaAI(base_url=server.url, auth_token=server.token, max_retries=0) as client,
        lumaai.AsyncLumaAI(base_url=server.url, auth_token="wrong", max_retries=0) as stranger,
    ):
        task = server.add_task("error-item")
        await clock.advance(50)
        failed = await client.generations.get(task)
        with pytest.raises(lumaai.AuthenticationError):
            await stranger.generations.get(task)
    assert (failed.state, failed.failure_reason) == ("failed", "Something went wrong while rendering.")
