"""A new-api gateway's tasks are read as it really sends them."""

import json

import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ScriptedNewApi
from relay.upstreams import Cancels, FetchesResults, NewApi, Submits, Upstream
from tests.upstreams.stub import Stub, reply

LINK = "https://files/a.mp4"


async def told(body: object, status: str = "200 OK") -> Observation | UpstreamError:
    async with Stub(reply(json.dumps(body), status)) as stub, NewApi(f"{stub.url}/v1", "canary-1") as upstream:
        answer = (await upstream.observe(["t"])).tasks["t"]
    assert stub.paths == ["/v1/video/generations/t"]
    return answer


async def observed(**task: object) -> Observation:
    answer = await told({"code": "success", "message": "", "data": {"task_id": "t", "status": "IN_PROGRESS", **task}})
    assert isinstance(answer, Observation), answer
    return answer


def test_it_submits_and_neither_cancels_nor_keeps_results_elsewhere() -> None:
    upstream = NewApi("https://gateway/v1", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, True, False, False]


@pytest.mark.parametrize(
    ("wire", "percent", "source", "raw"),
    [
        ("0%", 0, "parsed", "0%"),
        ("30%", 30, "parsed", "30%"),
        (" 30.6 % ", 31, "parsed", " 30.6 % "),
        ("170%", 100, "parsed", "170%"),
        ("-3%", 0, "parsed", "-3%"),
        (30, 30, "reported", None),
        ("", None, None, ""),
        ("30", 30, "parsed", "30"),
        (None, None, None, None),
    ],
)
async def test_progress_is_text_and_is_said_to_be_parsed(
    wire: object, percent: int | None, source: str | None, raw: str | None
) -> None:
    answer = await observed(progress=wire)
    assert (answer.percent, answer.source, answer.raw_percent) == (percent, source, raw)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NOT_START", "queued"),
        ("SUBMITTED", "queued"),
        ("QUEUED", "queued"),
        ("IN_PROGRESS", "running"),
        ("processing", "running"),
        ("UNKNOWN", "unknown"),
    ],
)
async def test_each_word_that_is_no_end_goes_on(word: str, status: str) -> None:
    answer = await observed(status=word, progress="100%")
    assert (answer.status, answer.raw_status, answer.percent) == (status, word, 100)
    assert (answer.failure, answer.result) == (None, None)


@pytest.mark.parametrize(
    "task",
    [
        {"status": "SUCCESS", "result_url": LINK, "fail_reason": ""},
        {"status": "SUCCESS", "fail_reason": LINK},
        {"status": "SUCCESS", "result_url": LINK, "fail_reason": LINK},
        {"status": "succeeded", "url": LINK, "error": None, "format": "mp4", "metadata": None},
    ],
    ids=["as it is now", "of an older gateway", "with both", "asked for at once"],
)
async def test_a_result_is_found_wherever_the_gateway_has_put_it(task: dict[str, object]) -> None:
    answer = await observed(progress="100%", **task)
    assert (answer.status, answer.result, answer.failure) == (
        "succeeded",
        Result(urls=(LINK,), media_types=("video/mp4",)),
        None,
    )


async def test_a_success_that_names_no_file_has_none() -> None:
    assert (await observed(status="SUCCESS", result_url="", fail_reason="")).result == Result(urls=())


@pytest.mark.parametrize(
    ("task", "failure"),
    [
        (
            {"status": "FAILURE", "fail_reason": "It broke.", "result_url": "It broke."},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
        ({"status": "FAILURE", "fail_reason": LINK}, Failure(kind="upstream", message=LINK, retryable=True)),
        (
            {"status": "FAILURE", "fail_reason": "content policy violation"},
            Failure(kind="policy", message="content policy violation"),
        ),
        (
            {"status": "FAILURE", "fail_reason": ""},
            Failure(kind="upstream", message="the upstream says 'FAILURE'", retryable=True),
        ),
        (
            {"status": "succeeded", "url": LINK, "error": {"message": "no"}},
            Failure(kind="upstream", message="no", retryable=True),
        ),
        ({"status": "cancelled"}, Failure(kind="cancelled", message="the upstream says 'cancelled'")),
    ],
)
async def test_a_failure_is_one_though_it_says_100_percent_or_names_an_address(
    task: dict[str, object], failure: Failure
) -> None:
    answer = await observed(progress="100%", **task)
    assert (answer.failure, answer.result, answer.percent) == (failure, None, None)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("400 Bad Request", {"code": "task_not_exist", "message": "task_not_exist", "data": None}, "not-found"),
        ("400 Bad Request", {"code": "invalid_request", "message": "bad", "data": None}, "refused"),
        ("200 OK", {"code": "get_task_failed", "message": "the token canary-1", "data": None}, "refused"),
        ("200 OK", {"code": "success", "data": None}, "refused"),
        ("200 OK", {"code": "success", "data": {}}, "refused"),
        ("200 OK", {"code": "success", "data": [1]}, "malformed"),
        ("200 OK", {"code": "success", "data": {"status": 3}}, "malformed"),
        ("200 OK", [], "malformed"),
    ],
)
async def test_what_tells_of_no_task_is_a_failed_poll_and_ends_nothing(status: str, body: object, kind: str) -> None:
    answer = await told(body, status)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "canary" in answer.message) == (kind, False)


@pytest.mark.parametrize("missing", ["model", "prompt"])
async def test_it_refuses_to_submit_what_the_gateway_would_refuse(missing: str) -> None:
    input = {"model": "m", "prompt": "a cat"}
    async with ScriptedNewApi() as server, NewApi(server.url, server.token) as upstream:
        with pytest.raises(UsageError, match=f"the input needs the key '{missing}'"):
            await upstream.submit({key: value for key, value in input.items() if key != missing})
        assert await upstream.submit(input) in server.tasks
    assert server.requests == {"POST /video/generations": 1}
