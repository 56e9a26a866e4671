"""Long-running operations are read as the Gemini API really sends them; videos withheld are never a success."""

import json
from typing import Any

import pytest

from relay.errors import UpstreamError, UsageError
from relay.events import Done
from relay.jobs.observations import Failure, Observation, Result
from relay.jobs.outcome import outcome
from relay.testing import ManualClock
from relay.testing.scripted.veo import ScriptedVeo
from relay.upstreams import Cancels, FetchesResults, Submits, Upstream
from relay.upstreams.dialects.veo import Veo
from relay.upstreams.http.client import HttpClient
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply

TASK = "models/veo-3.0-generate-001/operations/abc-1"


async def seen(**operation: object) -> Observation | UpstreamError:
    async with (
        Stub(reply(json.dumps({"name": TASK, **operation}))) as stub,
        Veo(f"{stub.url}/v1beta", "key-1") as upstream,
    ):
        answer = await upstream.observe([TASK])
    assert stub.paths == [f"/v1beta/{TASK}"]
    assert b"x-goog-api-key: key-1\r\n" in stub.requests[0]
    assert b"authorization" not in stub.requests[0].lower()
    return answer.tasks[TASK]


async def made(**videos: object) -> Observation | UpstreamError:
    return await seen(done=True, response={"generateVideoResponse": videos})


def test_it_submits_and_cannot_cancel() -> None:
    upstream = Veo("https://generativelanguage.googleapis.com/v1beta", "key")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, FetchesResults, Submits, Cancels)]
    assert abilities == [True, False, True, False]


@pytest.mark.parametrize("operation", [{}, {"done": False}, {"done": None, "metadata": {"@type": "x"}}])
async def test_an_operation_is_at_work_until_it_says_otherwise(operation: dict[str, Any]) -> None:
    assert await seen(**operation) == Observation(status="running")


async def test_the_result_is_every_video_with_an_address() -> None:
    samples = [{"video": {"uri": "https://g/a:download?alt=media"}}, {"video": {}}, {}, {"video": {"uri": "gs://b/c"}}]
    assert await made(generatedSamples=samples) == Observation(
        status="succeeded", result=Result(urls=("https://g/a:download?alt=media",), value="gs://b/c")
    )


async def test_videos_that_come_as_bytes_are_a_value_that_is_kept_with_their_size() -> None:
    samples = [{"video": {"encodedVideo": "A" * 100_000, "encoding": "video/mp4"}}]
    answer = await made(generatedSamples=samples)
    assert isinstance(answer, Observation)
    assert answer.result is not None
    (end,) = outcome(answer.result)
    left_out = "[base64 of 75,000 bytes, left out]"
    assert end == Done(result={"generatedSamples": [{"video": {"encodedVideo": left_out, "encoding": "video/mp4"}}]})


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (
            {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["A person was shown."]},
            "1 video was withheld by the rules on content: A person was shown.",
        ),
        (
            {"generatedSamples": [], "raiMediaFilteredReasons": ["One.", "Two."]},
            "2 videos were withheld by the rules on content: One. Two.",
        ),
        ({"raiMediaFilteredCount": 2}, "2 videos were withheld by the rules on content"),
    ],
)
async def test_an_operation_whose_videos_were_all_withheld_has_failed(videos: dict[str, Any], message: str) -> None:
    assert await made(**videos) == Observation(status="failed", failure=Failure(kind="policy", message=message))


async def test_of_several_videos_the_others_are_a_result_and_the_withheld_are_told() -> None:
    answer = await made(
        generatedSamples=[{"video": {"uri": "https://g/a.mp4"}}],
        raiMediaFilteredCount=1,
        raiMediaFilteredReasons=["A person was shown."],
    )
    assert answer == Observation(
        status="succeeded",
        log=("1 video was withheld by the rules on content: A person was shown.",),
        result=Result(urls=("https://g/a.mp4",), media_types=("video/mp4",)),
    )


@pytest.mark.parametrize("operation", [{"done": True}, {"done": True, "response": {}}])
async def test_an_operation_that_ended_with_nothing_is_a_result_without_files(operation: dict[str, Any]) -> None:
    assert await seen(**operation) == Observation(status="succeeded", result=Result(urls=()))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": 13, "message": "it broke"}, Failure(kind="upstream", message="it broke", retryable=True)),
        ({"code": 3, "message": "bad image"}, Failure(kind="upstream", message="bad image")),
        (
            {"code": 3, "message": "The prompt violates our usage guidelines."},
            Failure(kind="policy", message="The prompt violates our usage guidelines."),
        ),
        ({"code": 1, "message": "stopped"}, Failure(kind="cancelled", message="stopped")),
        ({"code": 4, "message": "too slow"}, Failure(kind="timeout", message="too slow", retryable=True)),
        ({"code": 8, "message": "quota"}, Failure(kind="rate-limit", message="quota", retryable=True)),
        ({"code": 7, "message": "not yours"}, Failure(kind="auth", message="not yours")),
        ({}, Failure(kind="upstream", message="the upstream gives no reason, and no code")),
        ({"code": 2}, Failure(kind="upstream", message="the upstream gives no reason, and code 2")),
    ],
)
async def test_an_operation_with_an_error_says_whose_and_why(error: dict[str, Any], failure: Failure) -> None:
    status = "cancelled" if failure.kind == "cancelled" else "failed"
    assert await seen(done=True, error=error) == Observation(status=status, failure=failure)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "task", ["", "abc", "models/x", "operations/", "../operations/a", "operations/a?key=b", "models/x/operations/a/b"]
)
async def test_what_names_no_operation_is_not_asked_for(task: str) -> None:
    async with Stub(reply("{}")) as stub, Veo(stub.url, "key") as upstream:
        answer = (await upstream.observe([task])).tasks[task]
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, stub.requests) == ("not-found", [])


async def test_an_operation_in_another_form_is_malformed_and_names_the_field() -> None:
    answer = await seen(done="soon")
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "`$.done`" in answer.message) == ("malformed", True)


@pytest.mark.parametrize(
    ("input", "body"),
    [
        ({"model": "veo-1", "prompt": "a cat"}, {"instances": [{"prompt": "a cat"}]}),
        (
            {"model": "models/veo-1", "instances": [{"prompt": "a"}], "parameters": {"durationSeconds": 8}},
            {"instances": [{"prompt": "a"}], "parameters": {"durationSeconds": 8}},
        ),
    ],
)
async def test_a_submit_begins_an_operation_of_its_model(input: dict[str, Any], body: object) -> None:
    async with Stub(reply(json.dumps({"name": TASK}))) as stub, Veo(stub.url, "key") as upstream:
        assert await upstream.submit(input) == TASK
    assert stub.paths == ["/models/veo-1:predictLongRunning"]
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == body


@pytest.mark.parametrize("input", [{"prompt": "a"}, {"model": "veo-1"}, {"model": "a/b", "prompt": "a"}])
async def test_a_submit_that_lacks_something_is_refused_before_anything_is_sent(input: dict[str, Any]) -> None:
    async with Stub(reply("{}")) as stub, Veo(stub.url, "key") as upstream:
        with pytest.raises(UsageError):
            await upstream.submit(input)
    assert stub.requests == []


@pytest.mark.parametrize("name", ["", "abc", "https://elsewhere/operations/a?x=1"])
async def test_an_answer_that_names_no_operation_is_malformed(name: str) -> None:
    async with Stub(reply(json.dumps({"name": name}))) as stub, Veo(stub.url, "key") as upstream:
        with pytest.raises(UpstreamError, match="may have be"):
            await upstream.submit({"model": "veo-1", "prompt": "a"})


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        ("happy", "done, 1 file"),
        ("error-item", "failed (upstream): Something went wrong while rendering."),
        ("missing-url", "failed (malformed): the upstream says it is finished, but names no file"),
    ],
)
async def test_an_operation_is_followed_to_its_end(scenario: str, end: str) -> None:
    clock = ManualClock()
    async with ScriptedVeo(clock=clock) as server, Veo(server.url, server.token) as upstream:
        task = await upstream.submit({"model": "veo-1", "prompt": f"[{scenario}] a cat"})
        assert retold(await lived(upstream, task, clock)) == ["running", end]


async def test_the_address_of_a_video_is_answered_to_those_who_send_the_key() -> None:
    clock = ManualClock()
    async with ScriptedVeo(clock=clock) as server, Veo(server.url, server.token) as upstream:
        (end,) = (await lived(upstream, server.add_task(), clock))[-1:]
        path = end.urls[0].removeprefix(server.url)  # type: ignore[union-attr]
        async with HttpClient(server.url, server.token, upstream="veo", scheme="", header="x-goog-api-key") as client:
            assert (await client.request("GET", path)).body.endswith(b"mdat")
        async with HttpClient(server.url, upstream="veo") as client:
            with pytest.raises(UpstreamError, match="401"):
                await client.request("GET", path)
