"""fal's dialect is read as it is really sent; its own client takes what the scripted server sends."""

import json
from typing import Any

import fal_client
import fal_client.client
import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.testing.scripted.fal import ScriptedFal
from relay.upstreams import Cancels, FetchesResults, Submits, Upstream
from relay.upstreams.dialects.fal import Fal
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply

TASK = "fal-ai/fast-sdxl/requests/r-1"


async def seen(http: str = "200 OK", /, **body: object) -> Observation | UpstreamError:
    async with Stub(reply(json.dumps(body), http)) as stub, Fal(stub.url, "canary-1") as upstream:
        answer = await upstream.observe([TASK])
    assert stub.paths == [f"/{TASK}/status?logs=1"]
    assert b"Authorization: Key canary-1\r\n" in stub.requests[0]
    return answer.tasks[TASK]


async def fetched(body: object, status: str = "200 OK") -> Observation | UpstreamError | None:
    async with Stub(reply(json.dumps(body), status)) as stub, Fal(stub.url, "token") as upstream:
        answer = await upstream.fetch_result([TASK])
    assert stub.paths == [f"/{TASK}"]
    return answer.tasks.get(TASK)


def test_it_submits_cancels_and_keeps_results_elsewhere() -> None:
    upstream = Fal("https://queue.fal.run", "token")
    assert all(isinstance(upstream, ability) for ability in (Upstream, FetchesResults, Submits, Cancels))


async def test_a_request_in_the_queue_says_its_place() -> None:
    answer = await seen("202 Accepted", status="IN_QUEUE", queue_position=3)
    assert answer == Observation(status="queued", raw_status="IN_QUEUE", queue_position=3, log_offset=0)


async def test_a_request_at_work_shows_its_log_from_the_start() -> None:
    logs = [{"message": "loading\nthe model", "level": "INFO"}, {"message": "with canary-1"}, "bare", {"level": "INFO"}]
    answer = await seen("202 Accepted", status="IN_PROGRESS", logs=logs)
    log = ("loading", "the model", "with ***", "bare")
    assert answer == Observation(status="running", raw_status="IN_PROGRESS", log=log, log_offset=0)


async def test_a_completed_request_has_its_result_fetched() -> None:
    answer = await seen(status="COMPLETED", logs=None, metrics={}, error=None)
    assert answer == Observation(status="succeeded", raw_status="COMPLETED", log_offset=0)


@pytest.mark.parametrize(
    ("error", "error_type", "failure"),
    [
        ("it broke", "runner_server_error", Failure(kind="upstream", message="it broke", retryable=True)),
        (None, "request_timeout", Failure(kind="upstream", message="request_timeout", retryable=True)),
        ("no such option", "bad_request", Failure(kind="upstream", message="no such option")),
        ("no", "content_policy_violation", Failure(kind="policy", message="no")),
        ("stopped", "client_cancelled", Failure(kind="cancelled", message="stopped")),
    ],
)
async def test_completed_with_an_error_is_a_failure(error: str | None, error_type: str, failure: Failure) -> None:
    answer = await seen(status="COMPLETED", error=error, error_type=error_type)
    assert answer == Observation(status="failed", raw_status="COMPLETED", log_offset=0, failure=failure)


@pytest.mark.parametrize(
    ("body", "urls", "more"),
    [
        ({"video": {"url": "https://f/a.mp4", "content_type": "video/mp4"}, "seed": 1}, ("https://f/a.mp4",), True),
        (
            {"images": [{"url": "https://f/a.mp4"}, {"url": "https://f/b.mp4"}]},
            ("https://f/a.mp4", "https://f/b.mp4"),
            False,
        ),
        ({"video": {"url": "https://f/a.mp4"}, "prompt": "https://example/b.mp4"}, ("https://f/a.mp4",), False),
        ({"output": "https://f/a.mp4"}, ("https://f/a.mp4",), False),
        ({"text": "a cat"}, (), True),
        ({}, (), False),
    ],
)
async def test_a_result_is_every_address_that_is_called_one_and_all_of_it_where_it_is_more(
    body: object, urls: tuple[str, ...], more: bool
) -> None:
    kinds = tuple("video/mp4" for _ in urls)
    result = Result(urls=urls, media_types=kinds, value=body if more else None, fileless=not urls)
    assert await fetched(body) == Observation(status="succeeded", raw_status="COMPLETED", result=result)


@pytest.mark.parametrize(
    ("detail", "failure"),
    [
        ([{"msg": "no cats", "type": "content_policy_violation"}], Failure(kind="policy", message="no cats")),
        ([{"msg": "too wide", "type": "value_error"}], Failure(kind="upstream", message="too wide")),
        ("no such option", Failure(kind="upstream", message="no such option")),
        (None, Failure(kind="upstream", message="the upstream says 'COMPLETED'")),
    ],
)
async def test_a_model_that_answers_with_an_error_has_failed(detail: object, failure: Failure) -> None:
    answer = await fetched({"detail": detail}, "422 Unprocessable Entity")
    assert answer == Observation(status="failed", raw_status="COMPLETED", failure=failure)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"status": "IN_PROGRESS"}, "202 Accepted"), ({"detail": "Request is still in progress"}, "400 Bad Request")],
)
async def test_a_result_that_is_not_there_yet_is_not_mentioned(body: object, status: str) -> None:
    assert await fetched(body, status) is None


@pytest.mark.parametrize("task", ["r-1", "a/../requests/r", "a/b/requests/..", "a/b/requests/r/x", "", "https://e/x"])
async def test_what_is_no_request_is_not_asked_for(task: str) -> None:
    async with Stub(reply("{}")) as stub, Fal(stub.url, "token") as upstream:
        answer = (await upstream.observe([task])).tasks[task]
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, stub.requests) == ("not-found", [])


async def test_with_a_model_a_request_id_is_enough() -> None:
    async with (
        Stub(reply('{"status": "IN_PROGRESS"}')) as stub,
        Fal(stub.url, "t", model="fal-ai/flux/dev") as upstream,
    ):
        await upstream.observe(["r-1"])
    assert stub.paths == ["/fal-ai/flux/requests/r-1/status?logs=1"]


@pytest.mark.parametrize(
    ("address", "task"),
    [
        ("https://queue.fal.run/fal-ai/flux/requests/r-1", "fal-ai/flux/requests/r-1"),
        ("https://gateway/fal/fal-ai/flux/requests/r-1", "fal-ai/flux/requests/r-1"),
        ("https://queue.fal.run/workflows/me/mine/requests/r-1", "workflows/me/mine/requests/r-1"),
    ],
)
async def test_a_submit_is_followed_where_the_answer_says_but_on_our_host(address: str, task: str) -> None:
    body = json.dumps({"request_id": "r-1", "response_url": address})
    async with Stub(reply(body)) as stub, Fal(stub.url, "token") as upstream:
        assert await upstream.submit({"model": "fal-ai/flux/dev", "prompt": "a cat"}) == task
    assert stub.paths == ["/fal-ai/flux/dev"]
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == {"prompt": "a cat"}


@pytest.mark.parametrize("body", ['{"request_id": "r"}', '{"response_url": "https://e/r"}', '{"response_url": "//[x"}'])
async def test_an_answer_that_leads_to_no_request_is_malformed(body: str) -> None:
    async with Stub(reply(body)) as stub, Fal(stub.url, "token") as upstream:
        with pytest.raises(UpstreamError, match="may"):
            await upstream.submit({"model": "fal-ai/flux", "prompt": "a cat"})
    assert len(stub.requests) == 1


@pytest.mark.parametrize("input", [{}, {"model": "flux"}, {"model": "a/../b"}, {"model": 7}])
async def test_a_submit_without_a_model_is_refused_before_anything_is_sent(input: dict[str, Any]) -> None:
    async with Stub(reply("{}")) as stub, Fal(stub.url, "token") as upstream:
        with pytest.raises(UsageError, match="model"):
            await upstream.submit(input)
    assert stub.requests == []


async def test_no_line_of_the_log_is_told_twice() -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server, Fal(server.url, server.token) as upstream:
        told = await lived(upstream, await upstream.submit({"model": "a/b/c", "prompt": "a cat"}), clock)
    lines = [event.text for event in told if event.type == "log"]
    assert len(lines) == len(set(lines)) == 16
    assert retold(told)[-2:] == ["finished, fetching the result (try 1)", "done, 1 file (video/mp4)"]


async def test_a_request_that_was_cancelled_says_so_and_one_that_is_completed_cannot_be() -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server, Fal(server.url, server.token) as upstream:
        task = server.add_task()
        await upstream.cancel(task)
        assert retold(await lived(upstream, task, clock)) == ["cancelled by the upstream: Request was cancelled"]
        with pytest.raises(UpstreamError, match="answered 400"):
            await upstream.cancel(task)


async def test_its_own_client_takes_what_the_scripted_server_sends_from_submit_to_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server:
        # It takes a host from the environment, and https with it; all else comes from the addresses in the answer.
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{server.url}/")
        handle = await fal_client.AsyncClient(key=server.token).submit("fal-ai/flux/dev", {"prompt": "a cat"})
        seen: list[str] = []
        lines: list[Any] = []
        for _ in range(20):
            status = await handle.status(with_logs=True)
            seen.append(type(status).__name__)
            if isinstance(status, fal_client.Completed):
                lines = status.logs or []
            await clock.advance(2.5)
        result = await handle.get()
        await handle.client.aclose()
        assert list(dict.fromkeys(seen)) == ["Queued", "InProgress", "Completed"]
        assert (len(lines), result["video"]["url"]) == (16, server.file_url(server.tasks[handle.request_id]))


async def test_its_own_client_is_told_of_a_refusal_a_failure_and_a_cancelled_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server:
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{server.url}/")
        client = fal_client.AsyncClient(key=server.token)
        refused = await client.submit("a/b", {"prompt": "[violation] a cat"})
        broken = await client.submit("a/b", {"prompt": "[error-item] a cat"})
        stopped = await client.submit("a/b", {"prompt": "a cat"})
        await stopped.cancel()
        await clock.advance(60)
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            await refused.get()
        ends = [await handle.status() for handle in (broken, stopped)]
        await stopped.client.aclose()
        assert (caught.value.status_code, caught.value.error_type) == (422, "bad_request")
        assert [(end.error, end.error_type) for end in ends if isinstance(end, fal_client.Completed)] == [
            ("Something went wrong while rendering.", "runner_server_error"),
            ("Request was cancelled", "client_cancelled"),
        ]


async def test_its_own_client_is_told_of_a_wrong_token_and_of_an_unknown_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ScriptedFal(clock=ManualClock()) as server:
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{server.url}/")
        stranger, client = fal_client.AsyncClient(key="wrong"), fal_client.AsyncClient(key=server.token)
        known = server.add_task().rpartition("/")[2]
        refusals = []
        for asking in (
            stranger.submit("a/b", {"prompt": "a cat"}),
            stranger.status("scripted/video", known),
            stranger.result("scripted/video", known),
            client.status("scripted/video", "none"),
        ):
            with pytest.raises(fal_client.FalClientHTTPError) as caught:
                await asking
            refusals.append((caught.value.status_code, caught.value.message))
        for one in (stranger, client):
            await (await one._client).aclose()
    assert refusals == [(401, "The authentication token is not valid.")] * 3 + [(404, "There is no such task.")]
    assert list(server.tasks) == [known]
