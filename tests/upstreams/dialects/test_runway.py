"""Runway's tasks are read as they are really sent; its own client takes what the scripted server sends."""

import json

import pytest
import runwayml
from runwayml.types import task_retrieve_response as tasks

from relay.errors import UpstreamError, UsageError
from relay.events import Exchange
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock, ScriptedRunway
from relay.upstreams import Cancels, FetchesResults, Runway, Submits, Upstream
from tests.upstreams.stub import Stub, reply


async def seen(**task: object) -> Observation | UpstreamError:
    body = json.dumps({"id": "t", "createdAt": "2026-01-01T00:00:00Z", "status": "RUNNING", **task})
    async with Stub(reply(body)) as stub, Runway(stub.url, "canary-1") as upstream:
        answer = (await upstream.observe(["t"])).tasks["t"]
    assert stub.paths == ["/v1/tasks/t"]
    assert b"\r\nX-Runway-Version: 2024-11-06\r\n" in stub.requests[0]
    return answer


async def observed(**task: object) -> Observation:
    answer = await seen(**task)
    assert isinstance(answer, Observation), answer
    return answer


def test_it_submits_and_cancels_and_keeps_no_results_elsewhere() -> None:
    upstream = Runway("https://api.dev.runwayml.com", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, True, True, False]


@pytest.mark.parametrize(
    ("task", "status", "percent"),
    [
        ({"status": "PENDING"}, "queued", None),
        ({"status": "THROTTLED"}, "queued", None),
        ({"status": "RUNNING", "progress": 0}, "running", 0),
        ({"status": "RUNNING", "progress": 0.29}, "running", 29),
        ({"status": "RUNNING", "progress": 1}, "running", 100),
        ({"status": "RUNNING", "progress": 1.7}, "running", 100),
        ({"status": "RUNNING"}, "running", None),
        ({"status": "PAUSED", "progress": 0.5}, "unknown", 50),
    ],
)
async def test_a_task_goes_on_with_a_figure_while_it_runs(
    task: dict[str, object], status: str, percent: int | None
) -> None:
    answer = await observed(**task)
    assert (answer.status, answer.raw_status, answer.percent) == (status, task["status"], percent)
    assert (answer.failure, answer.result) == (None, None)


@pytest.mark.parametrize(
    ("output", "result"),
    [
        (["https://r/a.mp4?_jwt=x"], Result(urls=("https://r/a.mp4?_jwt=x",), media_types=("video/mp4",))),
        (
            ["https://r/a.png", "https://r/b.png"],
            Result(urls=("https://r/a.png", "https://r/b.png"), media_types=("image/png", "image/png")),
        ),
        (["https://r/a.mp4", "https://r/b"], Result(urls=("https://r/a.mp4", "https://r/b"))),
        (["file:///etc/passwd", None], Result(urls=())),
        ([], Result(urls=())),
        (None, Result(urls=())),
        ("https://r/a.mp4", Result(urls=("https://r/a.mp4",), media_types=("video/mp4",))),
    ],
)
async def test_a_result_is_every_link_of_the_output(output: object, result: Result) -> None:
    assert (await observed(status="SUCCEEDED", output=output)).result == result


@pytest.mark.parametrize(
    ("task", "failure"),
    [
        (
            {"status": "FAILED", "failure": "It broke.", "failureCode": "INTERNAL.BAD_OUTPUT.CODE01"},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
        (
            {"status": "FAILED", "failure": "It was held back.", "failureCode": "SAFETY.INPUT.TEXT"},
            Failure(kind="policy", message="It was held back."),
        ),
        (
            {"status": "FAILED", "failure": "It was held back.", "failureCode": "INPUT_PREPROCESSING.SAFETY.TEXT"},
            Failure(kind="policy", message="It was held back."),
        ),
        ({"status": "FAILED"}, Failure(kind="upstream", message="the upstream says 'FAILED'", retryable=True)),
        (
            {"status": "SUCCEEDED", "output": ["https://r/a.mp4"], "failure": "It broke."},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
        ({"status": "CANCELLED"}, Failure(kind="cancelled", message="the upstream says 'CANCELLED'")),
    ],
)
async def test_a_failure_is_said_with_its_kind_and_reason(task: dict[str, object], failure: Failure) -> None:
    answer = await observed(**task)
    assert (answer.failure, answer.result) == (failure, None)


async def test_a_body_without_a_status_names_the_field() -> None:
    answer = await seen(status=None)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "$.status" in answer.message) == ("malformed", True)


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({"promptText": "a cat"}, "/v1/text_to_video"),
        ({"promptText": "a cat", "promptImage": "https://i/a.png"}, "/v1/image_to_video"),
        ({"promptText": "a cat", "endpoint": "text_to_image"}, "/v1/text_to_image"),
    ],
)
async def test_a_submit_goes_to_the_endpoint_that_fits(input: dict[str, str], path: str) -> None:
    async with Stub(reply('{"id": "t"}')) as stub, Runway(stub.url, "token") as upstream:
        assert await upstream.submit(input) == "t"
    sent = {key: value for key, value in input.items() if key != "endpoint"}
    assert (stub.paths, json.loads(stub.requests[0].partition(b"\r\n\r\n")[2])) == ([path], sent)


@pytest.mark.parametrize("endpoint", ["../tasks", "", None, 7, ["text_to_video"]])
async def test_a_submit_to_no_endpoint_is_refused_before_it_is_sent(endpoint: object) -> None:
    async with Stub(reply('{"id": "t"}')) as stub, Runway(stub.url, "token") as upstream:
        with pytest.raises(UsageError, match="the input has an unknown endpoint"):
            await upstream.submit({"promptText": "a cat", "endpoint": endpoint})
    assert stub.paths == []


async def test_a_task_can_be_called_off() -> None:
    async with ScriptedRunway(clock=ManualClock()) as server, Runway(server.url, server.token) as upstream:
        task = server.add_task()
        await upstream.cancel(task)
        answer = (await upstream.observe([task])).tasks[task]
        with pytest.raises(UpstreamError, match="There is no such task"):
            await upstream.cancel("none")
    assert isinstance(answer, Observation)
    assert answer.failure == Failure(kind="cancelled", message="the upstream says 'CANCELLED'")


async def test_what_opens_a_file_is_masked_in_exchanges() -> None:
    heard: list[Exchange] = []
    body = json.dumps({"status": "SUCCEEDED", "output": ["https://r/a.mp4?_jwt=eyJcanary"]})
    async with Stub(reply(body)) as stub, Runway(stub.url, "token") as upstream:
        upstream.on_exchange = heard.append
        await upstream.observe(["t"])
    assert (heard[0].jobs, "https://r/a.mp4?_jwt=***" in heard[0].response) == (("t",), True)
    assert "canary" not in heard[0].response


async def test_the_official_client_takes_what_the_scripted_server_sends_from_submit_to_result() -> None:
    clock = ManualClock()
    async with (
        ScriptedRunway(clock=clock) as server,
        runwayml.AsyncRunwayML(base_url=server.url, api_key=server.token, max_retries=0) as client,
    ):
        made = await client.text_to_video.create(model="veo3.1", prompt_text="a cat", ratio="1280:720", duration=8)
        told: list[tuple[str, float | None]] = []
        while True:
            task = await client.tasks.retrieve(made.id)
            told.append((task.status, task.progress if isinstance(task, tasks.Running) else None))
            if isinstance(task, tasks.Succeeded):
                break
            assert isinstance(task, tasks.Pending | tasks.Throttled | tasks.Running)
            await clock.advance(6)
        assert task.output == [f"{server.url}/files/{made.id}.mp4?_jwt=scripted"]
        await client.tasks.delete(made.id)
    assert told == [
        ("THROTTLED", None),
        ("PENDING", None),
        ("RUNNING", 0.16),
        ("RUNNING", 0.36),
        ("RUNNING", 0.57),
        ("RUNNING", 0.74),
        ("RUNNING", 0.94),
        ("SUCCEEDED", None),
    ]


async def test_the_official_client_understands_the_scripted_servers_failures_and_refusals() -> None:
    clock = ManualClock()
    async with (
        ScriptedRunway(clock=clock) as server,
        runwayml.AsyncRunwayML(base_url=server.url, api_key=server.token, max_retries=0) as client,
        runwayml.AsyncRunwayML(base_url=server.url, api_key="wrong", max_retries=0) as stranger,
    ):
        task = server.add_task("violation")
        off = server.add_task()
        await client.tasks.delete(off)
        assert isinstance(await client.tasks.retrieve(off), tasks.Cancelled)
        await clock.advance(50)
        failed = await client.tasks.retrieve(task)
        with pytest.raises(runwayml.NotFoundError):
            await client.tasks.retrieve("none")
        with pytest.raises(runwayml.AuthenticationError):
            await stranger.tasks.retrieve(task)
    assert isinstance(failed, tasks.Failed)
    assert failed.failure_code == "SAFETY.OUTPUT.VIDEO"
