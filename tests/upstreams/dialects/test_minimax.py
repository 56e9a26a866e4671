"""MiniMax's dialect is read as it is really sent: codes in HTTP 200, and a result in two steps."""

import json
from typing import Any

import pytest

from relay.errors import UpstreamError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.testing.scripted.minimax import ScriptedMiniMax
from relay.upstreams import Cancels, FetchesResults, Submits, Upstream
from relay.upstreams.dialects.minimax import MiniMax
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply

QUERY = "/v1/query/video_generation?task_id=t"
FINE = {"base_resp": {"status_code": 0, "status_msg": "success"}}


async def answered(body: object) -> Observation | UpstreamError:
    async with Stub(reply(json.dumps(body))) as stub, MiniMax(stub.url, "canary-1") as upstream:
        try:
            answer = (await upstream.observe(["t"])).tasks["t"]
        except UpstreamError as error:
            answer = error
    assert stub.paths == [QUERY]
    return answer


async def seen(code: int = 0, message: str = "success", **task: object) -> Observation | UpstreamError:
    return await answered({"task_id": "t", **task, "base_resp": {"status_code": code, "status_msg": message}})


async def fetched(*bodies: object) -> tuple[object, list[str]]:
    replies = [reply(body if isinstance(body, str) else json.dumps(body)) for body in bodies]
    async with Stub(*replies) as stub, MiniMax(stub.url, "token") as upstream:
        try:
            found: object = (await upstream.fetch_result(["t"])).tasks.get("t")
        except UpstreamError as error:
            found = error
    return found, stub.paths


def test_it_submits_and_keeps_results_elsewhere_and_cannot_cancel() -> None:
    upstream = MiniMax("https://api.minimax.io", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, FetchesResults, Submits, Cancels)]
    assert abilities == [True, True, True, False]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Preparing", "queued"),
        ("Queueing", "queued"),
        ("Processing", "running"),
        ("Success", "succeeded"),
        ("Renderring", "unknown"),
    ],
)
async def test_a_state_is_told_in_our_word_and_in_theirs(word: str, status: Any) -> None:
    assert await seen(status=word, file_id="") == Observation(status=status, raw_status=word)


@pytest.mark.parametrize("code", [1026, 1027])
@pytest.mark.parametrize("word", ["Fail", "Processing", None])
async def test_a_task_refused_by_the_rules_on_content_has_failed(code: int, word: str | None) -> None:
    failure = Failure(kind="policy", message=f"the upstream answered code {code}: no, ***")
    assert await seen(code, "no, canary-1", status=word) == Observation(
        status="failed", raw_status=word, failure=failure
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [(0, "the upstream says 'Fail'"), (1000, "the upstream answered code 1000: it broke")],
)
async def test_a_task_that_failed_says_why(code: int, message: str) -> None:
    failure = Failure(kind="upstream", message=message, retryable=True)
    answer = await seen(code, "it broke", status="Fail")
    assert answer == Observation(status="failed", raw_status="Fail", failure=failure)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1000, "server"),
        (1001, "timeout"),
        (1002, "rate-limit"),
        (1004, "auth"),
        (1008, "refused"),
        (1024, "server"),
        (1039, "rate-limit"),
        (2013, "not-found"),
        (2049, "auth"),
        (7, "refused"),
    ],
)
async def test_an_error_code_in_http_200_is_an_error_of_its_kind(code: int, kind: str) -> None:
    answer = await seen(code, "no, canary-1")
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, answer.message) == (kind, f"the upstream answered code {code}: no, ***")


@pytest.mark.parametrize("body", [{}, FINE, {**FINE, "status": 7}, {"base_resp": {}}, []])
async def test_an_answer_in_another_form_is_malformed(body: object) -> None:
    answer = await answered(body)
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "not in this dialect" in answer.message) == ("malformed", True)


@pytest.mark.parametrize("wire", ['"176844028768320"', "176844028768320", "1768440287683201768440"])
async def test_the_file_of_a_finished_task_is_looked_up_however_its_id_is_written(wire: str) -> None:
    query = f'{{"status": "Success", "file_id": {wire}, "base_resp": {{"status_code": 0}}}}'
    found, paths = await fetched(query, {"file": {"download_url": "https://m/a.mp4"}, **FINE})
    result = Result(urls=("https://m/a.mp4",), media_types=("video/mp4",))
    assert found == Observation(status="succeeded", raw_status="Success", result=result)
    assert paths == [QUERY, "/v1/files/retrieve?file_id=" + wire.strip('"')]


@pytest.mark.parametrize(
    "bodies",
    [
        ({"status": "Success", "file_id": "", **FINE},),
        ({"status": "Success", **FINE},),
        ({"status": "Success", "file_id": "9", **FINE}, {"file": None, **FINE}),
        ({"status": "Success", "file_id": "9", **FINE}, {"file": {"download_url": ""}, **FINE}),
    ],
)
async def test_a_success_without_a_file_is_a_result_without_files(bodies: tuple[object, ...]) -> None:
    found, _ = await fetched(*bodies)
    assert found == Observation(status="succeeded", raw_status="Success", result=Result(urls=()))


async def test_a_task_that_is_at_work_again_has_no_result_yet() -> None:
    assert await fetched({"status": "Processing", **FINE}) == (None, [QUERY])


async def test_a_file_that_cannot_be_retrieved_is_a_failed_poll() -> None:
    busy = {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}
    found, paths = await fetched({"status": "Success", "file_id": "9", **FINE}, busy)
    assert isinstance(found, UpstreamError)
    assert (found.kind, len(paths)) == ("rate-limit", 2)


@pytest.mark.parametrize(("wire", "task"), [('"106916112212032"', "106916112212032"), ("7", "7")])
async def test_a_submit_sends_its_input_and_returns_the_task(wire: str, task: str) -> None:
    body = f'{{"task_id": {wire}, "base_resp": {{"status_code": 0}}}}'
    async with Stub(reply(body)) as stub, MiniMax(stub.url, "token") as upstream:
        assert await upstream.submit({"model": "MiniMax-Hailuo-02", "prompt": "a cat"}) == task
    assert stub.paths == ["/v1/video_generation"]
    sent = json.loads(stub.requests[0].partition(b"\r\n\r\n")[2])
    assert sent == {"model": "MiniMax-Hailuo-02", "prompt": "a cat"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"task_id": "", "base_resp": {"status_code": 1026, "status_msg": "no"}}, "refused"),
        ({"base_resp": {"status_code": 1008}}, "refused"),
        ({"task_id": "", **FINE}, "malformed"),
        ({"task_id": "t" * 300, **FINE}, "malformed"),
    ],
)
async def test_a_submit_that_was_not_taken_is_an_error_and_not_sent_again(body: object, kind: str) -> None:
    async with Stub(reply(json.dumps(body))) as stub, MiniMax(stub.url, "token") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.submit({"prompt": "a"})
    assert (caught.value.kind, len(stub.requests)) == (kind, 1)


@pytest.mark.parametrize(
    ("scenario", "end"),
    [
        ("happy", ["finished, fetching the result (try 1)", "done, 1 file (video/mp4)"]),
        (
            "missing-url",
            [
                "finished, fetching the result (try 1)",
                "failed (malformed): the upstream says it is finished, but names no file",
            ],
        ),
        ("error-item", ["failed (upstream): the upstream says 'Fail'"]),
    ],
)
async def test_a_task_is_followed_to_its_end(scenario: str, end: list[str]) -> None:
    clock = ManualClock()
    async with ScriptedMiniMax(clock=clock) as server, MiniMax(server.url, server.token) as upstream:
        task = await upstream.submit({"prompt": f"[{scenario}] a cat"})
        assert retold(await lived(upstream, task, clock)) == ["Preparing", "Queueing", "Processing", *end]
