"""Kling's dialect is read as it is really sent, and an error is one whatever HTTP says."""

import json
from typing import Any

import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.testing.scripted.kling import ScriptedKling
from relay.upstreams import Cancels, FetchesResults, FindsSubmitted, Submits, Upstream
from relay.upstreams.dialects.kling import Kling
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply


async def answered(body: object, task: str = "t") -> Observation | UpstreamError:
    async with Stub(reply(json.dumps(body))) as stub, Kling(stub.url, "canary-1") as upstream:
        try:
            return (await upstream.observe([task])).tasks[task]
        except UpstreamError as error:
            return error


async def seen(**task: object) -> Observation | UpstreamError:
    return await answered({"code": 0, "message": "SUCCEED", "request_id": "r", "data": {"task_id": "t", **task}})


def test_it_submits_and_cannot_cancel() -> None:
    upstream = Kling("https://api-singapore.klingai.com", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, FetchesResults, Submits, Cancels)]
    assert abilities == [True, False, True, False]


@pytest.mark.parametrize(
    ("word", "status"), [("submitted", "queued"), ("processing", "running"), ("renderring", "unknown")]
)
async def test_a_state_is_told_in_our_word_and_in_theirs(word: str, status: Any) -> None:
    assert await seen(task_status=word) == Observation(status=status, raw_status=word)


async def test_the_result_is_every_video_with_an_address() -> None:
    videos = [{"id": "1", "url": "https://k/a.mp4", "duration": "5"}, {"id": "2", "url": None}]
    result = Result(urls=("https://k/a.mp4",), media_types=("video/mp4",))
    answer = await seen(task_status="succeed", task_result={"videos": videos})
    assert answer == Observation(status="succeeded", raw_status="succeed", result=result)


@pytest.mark.parametrize("more", [{}, {"task_result": None}, {"task_result": {"videos": None}}])
async def test_a_success_without_videos_is_a_result_without_files(more: dict[str, Any]) -> None:
    answer = await seen(task_status="succeed", **more)
    assert answer == Observation(status="succeeded", raw_status="succeed", result=Result(urls=()))


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("it broke, canary-1", Failure(kind="upstream", message="it broke, ***", retryable=True)),
        (None, Failure(kind="upstream", message="the upstream says 'failed'", retryable=True)),
        (
            "Failure to pass the risk control system",
            Failure(kind="policy", message="Failure to pass the risk control system"),
        ),
    ],
)
async def test_a_task_that_failed_says_why(message: str | None, failure: Failure) -> None:
    answer = await seen(task_status="failed", task_status_msg=message)
    assert answer == Observation(status="failed", raw_status="failed", failure=failure)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, "auth"),
        (1004, "auth"),
        (1101, "refused"),
        (1102, "refused"),
        (1103, "auth"),
        (1201, "refused"),
        (1203, "not-found"),
        (1301, "refused"),
        (1302, "rate-limit"),
        (1303, "rate-limit"),
        (1304, "auth"),
        (5000, "server"),
        (5002, "server"),
        (7, "refused"),
    ],
)
async def test_an_error_code_in_http_200_is_an_error_of_its_kind(code: int, kind: str) -> None:
    answer = await answered({"code": code, "message": "no, canary-1", "request_id": "r", "data": None})
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, answer.message) == (kind, f"the upstream answered code {code}: no, ***")


@pytest.mark.parametrize(
    "body", [{}, {"code": "0"}, {"code": 0}, {"code": 0, "data": {}}, {"code": 0, "data": {"task_status": 7}}, []]
)
async def test_an_answer_in_another_form_is_malformed(body: object) -> None:
    answer = await answered(body)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "not in this dialect" in answer.message) == ("malformed", True)


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("7", "/v1/videos/text2video/7"),
        ("image2video/7", "/v1/videos/image2video/7"),
        ("multi-image2video/a?b", "/v1/videos/multi-image2video/a%3Fb"),
    ],
)
async def test_a_task_is_asked_for_on_its_route(task: str, path: str) -> None:
    async with Stub(reply('{"code": 0, "data": {"task_status": "submitted"}}')) as stub, Kling(stub.url, "t") as kling:
        await kling.observe([task])
    assert stub.paths == [path]


@pytest.mark.parametrize("task", ["", "..", "text2video/", "../7", "A/7", "text2video/.."])
async def test_what_is_no_task_is_not_asked_for(task: str) -> None:
    async with Stub(reply("{}")) as stub, Kling(stub.url, "token") as upstream:
        answer = (await upstream.observe([task])).tasks[task]
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, stub.requests) == ("not-found", [])


@pytest.mark.parametrize(
    ("input", "route"),
    [
        ({"prompt": "a"}, "text2video"),
        ({"prompt": "a", "image": "https://e/a.png"}, "image2video"),
        ({"prompt": "a", "route": "multi-image2video"}, "multi-image2video"),
    ],
)
async def test_a_submit_takes_the_route_of_its_input(input: dict[str, Any], route: str) -> None:
    body = {"code": 0, "data": {"task_id": "7", "task_status": "submitted"}}
    async with Stub(reply(json.dumps(body))) as stub, Kling(stub.url, "token") as upstream:
        assert await upstream.submit(input) == f"{route}/7"
    assert stub.paths == [f"/v1/videos/{route}"]
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == {k: input[k] for k in input if k != "route"}


async def test_a_submit_to_no_route_is_refused_before_anything_is_sent() -> None:
    async with Stub(reply("{}")) as stub, Kling(stub.url, "token") as upstream:
        with pytest.raises(UsageError, match="route"):
            await upstream.submit({"prompt": "a", "route": "../.."})
    assert stub.requests == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [({"code": 1301, "message": "no"}, "refused"), ({"code": 0, "data": {"task_id": ""}}, "malformed")],
)
async def test_a_submit_that_was_not_taken_is_an_error_and_not_sent_again(body: object, kind: str) -> None:
    async with Stub(reply(json.dumps(body))) as stub, Kling(stub.url, "token") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.submit({"prompt": "a"})
    assert (caught.value.kind, len(stub.requests)) == (kind, 1)


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        ("happy", "done, 1 file (video/mp4)"),
        ("violation", "failed (policy): Failure to pass the risk control system"),
        ("error-item", "failed (upstream): Something went wrong while rendering."),
        ("missing-url", "failed (malformed): the upstream says it is finished, but names no file"),
    ],
)
async def test_a_task_is_followed_to_its_end(scenario: str, end: str) -> None:
    clock = ManualClock()
    async with ScriptedKling(clock=clock) as server, Kling(server.url, server.token) as upstream:
        task = await upstream.submit({"prompt": f"[{scenario}] a cat"})
        assert retold(await lived(upstream, task, clock)) == ["submitted", "processing", end]


async def test_an_outage_told_in_http_200_is_a_failed_poll_and_no_end() -> None:
    clock = ManualClock()
    async with ScriptedKling(clock=clock) as server, Kling(server.url, server.token) as upstream:
        told = await lived(upstream, server.add_task("rate-limited"), clock)
    assert [event.type for event in told if event.type in ("retrying", "done", "failed")] == ["retrying"] * 5 + ["done"]


@pytest.mark.server
@pytest.mark.parametrize("input", [{"prompt": "a cat"}, {"prompt": "a cat", "image": "https://k/a.png"}])
async def test_a_task_is_found_by_the_reference_that_it_was_submitted_with(input: dict[str, Any]) -> None:
    async with (
        ScriptedKling(clock=ManualClock()) as server,
        Kling(server.url, server.token) as upstream,
    ):
        assert isinstance(upstream, FindsSubmitted)
        task = await upstream.submit(upstream.with_reference(input, "job_1"))
        found = await upstream.find_submitted("job_1")
        own = upstream.with_reference({**input, "external_task_id": "mine"}, "job_2")

        # The double answers on any route.
        assert found is not None
        assert found.partition("/")[2] == task.partition("/")[2]
        assert (await upstream.find_submitted("job_2"), own["external_task_id"]) == (None, "mine")


async def test_a_search_that_fails_says_nothing_about_the_task() -> None:
    async with Stub(reply("{}", status="503 Service Unavailable")) as stub, Kling(stub.url, "canary-1") as upstream:
        with pytest.raises(UpstreamError, match="503"):
            await upstream.find_submitted("job_1")
