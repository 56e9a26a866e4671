"""Replicate's dialect is read as it is really sent; its own client takes what the scripted server sends."""

import json
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.testing.scripted.replicate import ScriptedReplicate
from relay.upstreams import Cancels, FetchesResults, Submits, Upstream
from relay.upstreams.dialects.replicate import Replicate
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply

with warnings.catch_warnings():
    # It is written for the pydantic of before, on the newest Python too.
    warnings.simplefilter("ignore")
    from replicate.client import Client
    from replicate.exceptions import ReplicateError


@asynccontextmanager
async def official(server: ScriptedReplicate, token: str | None = None) -> AsyncIterator[Any]:
    """Replicate's own client, which has no way to be closed."""
    client = Client(api_token=token or server.token, base_url=server.url)
    try:
        yield client
    finally:
        await client._async_client.aclose()


async def seen(**prediction: object) -> Observation | UpstreamError:
    body = json.dumps({"id": "t", "status": "processing", **prediction})
    async with Stub(reply(body)) as stub, Replicate(stub.url, "canary-1") as upstream:
        answer = await upstream.observe(["t"])
    assert stub.paths == ["/v1/predictions/t"]
    return answer.tasks["t"]


async def observed(**prediction: object) -> Observation:
    answer = await seen(**prediction)
    assert isinstance(answer, Observation), answer
    return answer


def test_it_submits_and_cancels_and_keeps_no_results_elsewhere() -> None:
    upstream = Replicate("https://api.replicate.com", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, FetchesResults, Submits, Cancels)]
    assert abilities == [True, False, True, True]


@pytest.mark.parametrize(
    ("logs", "percent"),
    [
        (None, None),
        ("", None),
        ("Using seed: 7\n", None),
        ("  0%|          | 0/50\n", 0),
        ("  2%|2         | 1/50\r 42%|####2     | 21/50", 42),
        ("100%|##########| 3/3\nnow the frames\n 12%|#         | 6/50\n", 12),
        ("999%|", 100),
        ("scale 50% of 12.5%| no bar", None),
        ("frames: 30%|###       |", 30),
    ],
)
async def test_the_figure_is_the_last_that_a_bar_in_the_log_shows(logs: str | None, percent: int | None) -> None:
    answer = await observed(logs=logs)
    assert (answer.percent, answer.source, answer.raw_percent) == (percent, None if percent is None else "parsed", None)


@pytest.mark.parametrize(
    ("logs", "status", "lines"),
    [
        ("loading\nstep 1\nste", "processing", ("loading", "step 1")),
        ("loading\nstep 1\nste", "failed", ("loading", "step 1", "ste")),
        ("loading\n", "failed", ("loading",)),
        ("  2%|\r 50%|\r100%|\nsaved\r\n", "processing", ("100%|", "saved")),
        ("a\n\nb\n", "processing", ("a", "", "b")),
        ("with canary-1 in it\n", "processing", ("with *** in it",)),
    ],
)
async def test_a_log_comes_in_whole_lines_and_a_bar_is_one(logs: str, status: str, lines: tuple[str, ...]) -> None:
    answer = await observed(logs=logs, status=status)
    assert (answer.log, answer.log_offset) == (lines, 0)


@pytest.mark.parametrize(
    ("output", "urls", "more"),
    [
        ("https://r/a.mp4", ("https://r/a.mp4",), False),
        (["https://r/a.mp4", "https://r/b.mp4", "https://r/a.mp4"], ("https://r/a.mp4", "https://r/b.mp4"), False),
        (
            {"video": "https://r/a.mp4", "meta": {"mask": ["https://r/b.mp4", 7]}},
            ("https://r/a.mp4", "https://r/b.mp4"),
            True,
        ),
        (["a", "cat"], (), True),
        ("data:image/png;base64,AAAA", (), True),
        (None, (), False),
    ],
)
async def test_a_result_is_every_address_in_the_output_and_the_output_where_it_is_more(
    output: object, urls: tuple[str, ...], more: bool
) -> None:
    answer = await observed(status="succeeded", output=output)
    media_types = tuple("video/mp4" for _ in urls)
    value = output if more else None
    assert answer.result == Result(urls=urls, media_types=media_types, value=value, fileless=not urls)


async def test_an_output_is_told_without_secrets() -> None:
    answer = await observed(status="succeeded", output={"text": "made with canary-1", "token": "7"})
    assert answer.result == Result(value={"text": "made with ***", "token": "***"}, fileless=True)


@pytest.mark.parametrize(
    ("prediction", "failure"),
    [
        (
            {"status": "failed", "error": "CUDA out of memory"},
            Failure(kind="upstream", message="CUDA out of memory", retryable=True),
        ),
        (
            {"status": "failed", "error": None},
            Failure(kind="upstream", message="the upstream says 'failed'", retryable=True),
        ),
        (
            {"status": "failed", "error": "The input or output was flagged as sensitive (E005)"},
            Failure(kind="policy", message="The input or output was flagged as sensitive (E005)"),
        ),
        (
            {"status": "failed", "error": "NSFW content detected. Try another prompt."},
            Failure(kind="policy", message="NSFW content detected. Try another prompt."),
        ),
        ({"status": "canceled"}, Failure(kind="cancelled", message="the upstream says 'canceled'")),
        ({"status": "aborted"}, Failure(kind="cancelled", message="the upstream says 'aborted'")),
    ],
)
async def test_a_prediction_that_ended_without_a_result_says_why(prediction: dict[str, Any], failure: Failure) -> None:
    answer = await observed(**prediction)
    assert (answer.failure, answer.result) == (failure, None)


@pytest.mark.parametrize(
    ("word", "status"),
    [("starting", "running"), ("processing", "running"), ("renderring", "unknown")],
)
async def test_a_state_is_told_in_our_word_and_in_theirs(word: str, status: Any) -> None:
    assert await observed(status=word) == Observation(status=status, raw_status=word, log_offset=0)


async def test_a_prediction_in_another_form_is_malformed_and_names_the_field() -> None:
    answer = await seen(status=7)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "`$.status`" in answer.message) == ("malformed", True)


@pytest.mark.parametrize(
    ("input", "path", "body"),
    [
        ({"version": "v1", "input": {"prompt": "a"}}, "/v1/predictions", {"version": "v1", "input": {"prompt": "a"}}),
        ({"model": "o/n", "input": {}}, "/v1/models/o/n/predictions", {"input": {}}),
        ({"deployment": "o/n-1", "input": {}}, "/v1/deployments/o/n-1/predictions", {"input": {}}),
    ],
)
async def test_a_submit_goes_to_what_it_names(input: dict[str, Any], path: str, body: object) -> None:
    async with Stub(reply('{"id": "t"}', "201 Created")) as stub, Replicate(stub.url, "token") as upstream:
        assert await upstream.submit(input) == "t"
    assert (stub.paths, json.loads(stub.requests[0].partition(b"\r\n\r\n")[2])) == ([path], body)


@pytest.mark.parametrize(
    "input", [{}, {"input": {}}, {"version": "v", "model": "o/n"}, {"model": "o"}, {"model": "../n"}, {"model": 7}]
)
async def test_a_submit_that_names_nothing_to_run_is_refused_before_anything_is_sent(input: dict[str, Any]) -> None:
    async with Stub(reply("{}")) as stub, Replicate(stub.url, "token") as upstream:
        with pytest.raises(UsageError):
            await upstream.submit(input)
    assert stub.requests == []


async def test_no_line_of_the_log_is_told_twice_and_no_figure_is_lost() -> None:
    clock = ManualClock()
    async with ScriptedReplicate(clock=clock) as server, Replicate(server.url, server.token) as upstream:
        task = await upstream.submit({"version": "v", "input": {"prompt": "a cat"}})
        told = await lived(upstream, task, clock)
    lines = [event.text for event in told if event.type == "log"]
    assert len(lines) == len(set(lines)) == 17
    assert retold(told)[-1] == "done, 1 file (video/mp4)"


async def test_its_own_client_takes_what_the_scripted_server_sends_from_submit_to_result() -> None:
    clock = ManualClock()
    async with ScriptedReplicate(clock=clock) as server, official(server) as client:
        prediction = await client.predictions.async_create("v1", {"prompt": "a cat"})
        statuses, last = [prediction.status], None
        for _ in range(20):
            await clock.advance(2.5)
            await prediction.async_reload()
            statuses.append(prediction.status)
            if prediction.progress is not None:
                last = prediction.progress.percentage
        assert list(dict.fromkeys(statuses)) == ["starting", "processing", "succeeded"]
        assert (last, prediction.output) == (1.0, server.file_url(server.tasks[prediction.id]))


async def test_its_own_client_cancels_and_we_do_and_both_see_it() -> None:
    clock = ManualClock()
    async with (
        ScriptedReplicate(clock=clock) as server,
        Replicate(server.url, server.token) as upstream,
        official(server) as client,
    ):
        theirs = await client.predictions.async_create("v1", {"prompt": "a cat"})
        await theirs.async_cancel()
        ours = await upstream.submit({"model": "a/b", "input": {"prompt": "a cat"}})
        await upstream.cancel(ours)
        again = await client.predictions.async_get(ours)
        assert (theirs.status, again.status) == ("canceled", "canceled")
        assert retold(await lived(upstream, ours, clock)) == ["cancelled by the upstream: the upstream says 'canceled'"]


async def test_its_own_client_is_told_of_failures_of_a_wrong_token_and_of_an_unknown_id() -> None:
    clock = ManualClock()
    async with (
        ScriptedReplicate(clock=clock) as server,
        official(server) as client,
        official(server, token="wrong") as stranger,
    ):
        broken = await client.predictions.async_create("v1", {"prompt": "[error-item] a cat"})
        flagged = await client.predictions.async_create("v1", {"prompt": "[violation] a cat"})
        await clock.advance(50)
        await broken.async_reload()
        await flagged.async_reload()
        with pytest.raises(ReplicateError) as refused:
            await stranger.predictions.async_get(broken.id)
        with pytest.raises(ReplicateError) as unmade:
            await stranger.predictions.async_create("v1", {"prompt": "a cat"})
        with pytest.raises(ReplicateError) as unknown:
            await client.predictions.async_get("none")
    assert (broken.status, broken.error, broken.output) == ("failed", "Something went wrong while rendering.", None)
    assert (flagged.status, flagged.error.endswith("third-party content. (E005)"), flagged.output) == (
        "failed",
        True,
        None,
    )
    assert [(error.value.status, error.value.detail) for error in (refused, unmade, unknown)] == [
        (401, "The authentication token is not valid."),
        (401, "The authentication token is not valid."),
        (404, "There is no such task."),
    ]
    assert list(server.tasks) == [broken.id, flagged.id]
