"""A status alone says that the work goes on, Retry-After when to ask again, and a refusal that nothing was done."""

import asyncio
import socket
from itertools import pairwise
from typing import Any

import pytest

from relay import Record, Relay
from relay.events import Failed, Received
from relay.jobs.observations import Answer, Observation
from relay.testing import ManualClock
from relay.upstreams import Declared, Runway, Sora
from relay.upstreams.declared.declaration import PollRequest, ResultRequest
from relay.upstreams.dialects.comfyui import ComfyUI
from relay.upstreams.dialects.fal import Fal
from relay.upstreams.dialects.kling import Kling
from relay.upstreams.dialects.luma import Luma
from relay.upstreams.dialects.minimax import MiniMax
from relay.upstreams.dialects.new_api import NewApi
from relay.upstreams.dialects.openai_videos import OpenAIVideos
from relay.upstreams.dialects.replicate import Replicate
from relay.upstreams.dialects.veo import Veo
from tests.upstreams.stub import Stub, reply

ITEM = PollRequest(path="tasks/{task}", status="status", urls="urls")
LIST = PollRequest(path="tasks", items="@", id="id", status="status", urls="urls")
FAL, VEO = "fal-ai/fast-sdxl/requests/r-1", "models/veo-3.0-generate-001/operations/abc-1"
DIALECTS: dict[str, Any] = {
    "declared": lambda url: Declared(url, "t", poll=ITEM),
    "declared list": lambda url: Declared(url, "t", poll=LIST),
    "comfyui": lambda url: ComfyUI(url, "token-1"),
    "fal": lambda url: Fal(url, "token-1"),
    "kling": lambda url: Kling(url, "token-1"),
    "luma": lambda url: Luma(url, "token-1"),
    "minimax": lambda url: MiniMax(url, "token-1"),
    "new-api": lambda url: NewApi(url, "token-1"),
    "openai-videos": lambda url: OpenAIVideos(url, "token-1"),
    "replicate": lambda url: Replicate(url, "token-1"),
    "runway": lambda url: Runway(url, "token-1"),
    "sora": lambda url: Sora(url, "token-1"),
    "veo": lambda url: Veo(url, "token-1"),
}
LISTS = ("comfyui", "declared list", "sora")


def task_of(dialect: str) -> str:
    return {"fal": FAL, "veo": VEO}.get(dialect, "a")


async def observed(dialect: str, sent: bytes) -> Answer:
    async with Stub(sent) as stub, DIALECTS[dialect](stub.url) as upstream:
        answer: Answer = await upstream.observe([task_of(dialect)])
    return answer


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("body", ["", " \r\n", "Accepted", '"accepted"', "null", "{}", "<html>working"])
async def test_a_poll_answered_202_without_a_document_is_still_running(dialect: str, body: str) -> None:
    answer = await observed(dialect, reply(body, "202 Accepted", retry_after="7"))
    assert answer.tasks == {task_of(dialect): Observation(status="running", poll_after=7.0)}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_poll_answered_204_is_still_running_and_an_empty_list_that_proves_nothing(dialect: str) -> None:
    answer = await observed(dialect, b"HTTP/1.1 204 No Content\r\nRetry-After: 7\r\n\r\n")
    if dialect in LISTS:
        assert answer == Answer(listed=0, tasks={}, partial=True, poll_after=7.0)
    else:
        assert answer == Answer(listed=1, tasks={task_of(dialect): Observation(status="running", poll_after=7.0)})


@pytest.mark.parametrize("status", ["202 Accepted", "204 No Content"])
async def test_a_look_for_a_result_that_is_answered_so_finds_none_yet(status: str) -> None:
    poll = PollRequest(path="tasks/{task}", status="status")
    for result in (
        ResultRequest(path="results/{task}", urls="urls"),
        ResultRequest(path="results", items="@", id="id", urls="urls"),
    ):
        async with (
            Stub(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode()) as stub,
            Declared(stub.url, "t", poll=poll, result=result) as upstream,
        ):
            assert (await upstream.fetch_result(["a"])).tasks == {}
    async with Stub(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode()) as stub:
        for other in (Fal(stub.url, "t"), MiniMax(stub.url, "t"), Sora(stub.url, "t")):
            async with other:
                answer = await other.fetch_result([FAL])
            assert answer.tasks == {}
            assert answer.partial is isinstance(other, Sora)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("declared", '{"status": "running"}'),
        ("declared list", '[{"id": "a", "status": "running"}]'),
        ("comfyui", '{"queue_running": [[0, "a", {}]], "queue_pending": []}'),
        ("fal", '{"status": "IN_PROGRESS"}'),
        ("luma", '{"id": "a", "state": "dreaming"}'),
        ("openai-videos", '{"id": "a", "status": "in_progress"}'),
        ("replicate", '{"id": "a", "status": "processing"}'),
        ("runway", '{"id": "a", "status": "RUNNING"}'),
        ("sora", '[{"id": "a", "status": "running"}]'),
    ],
)
async def test_retry_after_is_obeyed_on_an_answer_that_is_none_of_trouble(dialect: str, body: str) -> None:
    seen = (await observed(dialect, reply(body, retry_after="9"))).tasks[task_of(dialect)]
    assert isinstance(seen, Observation)
    assert (seen.status, seen.poll_after) == ("running", 9.0)


@pytest.mark.parametrize(
    "status", ["200 OK", "400 Bad Request", "401 No", "404 Not Found", "409 Conflict", "302 Found"]
)
async def test_and_on_an_answer_that_cannot_be_used(status: str) -> None:
    async with Stub(reply("what?", status, retry_after="9")) as stub, Runway(stub.url, "t") as upstream:
        try:
            error: object = (await upstream.observe(["a"])).tasks["a"]
        except Exception as caught:
            error = caught
    assert getattr(error, "retry_after", None) == 9.0


async def polls_of(*answers: bytes, item: bool = True) -> list[float]:
    """When the polls were answered, in seconds, up to the fourth."""
    clock = ManualClock(auto=True)
    times: list[float] = []
    enough = asyncio.Event()

    def note(record: Record) -> None:
        if isinstance(record.event, Received):
            times.append(clock.monotonic())
        if len(times) == 4:
            enough.set()

    async with Stub(*answers) as stub:
        upstream = Runway(stub.url, "t", clock=clock) if item else Sora(stub.url, "t", clock=clock)
        async with Relay([upstream], sinks=[note], clock=clock) as relay:
            relay.follow(upstream.name, "a")
            await enough.wait()
    return [round(after - before) for before, after in pairwise(times)]


@pytest.mark.parametrize("item", [True, False])
async def test_a_job_whose_polls_are_answered_202_is_polled_when_the_upstream_says(item: bool) -> None:
    assert await polls_of(reply("", "202 Accepted", retry_after="11"), item=item) == [11, 11, 11]


async def test_a_list_that_leaves_a_job_out_says_when_to_ask_again_all_the_same() -> None:
    assert await polls_of(reply("[]", retry_after="11"), item=False) == [11, 11, 11]


async def ending(url: str) -> Failed:
    """How a job ends that is submitted there."""
    ended: list[Failed] = []
    over = asyncio.Event()

    def note(record: Record) -> None:
        if isinstance(record.event, Failed):
            ended.append(record.event)
            over.set()

    clock = ManualClock(auto=True)
    async with Relay([Sora(url, "token-1", clock=clock)], sinks=[note], clock=clock) as relay:
        relay.submit("sora", {"prompt": "a cat"})
        await over.wait()
    return ended[0]


DOUBT = "; whether the upstream took the job is not known, and it is not submitted again"


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 405, 409, 410, 411, 413, 415, 422, 423, 425, 428, 429, 431, 451, 307, 308]
)
async def test_a_refusal_of_a_submit_says_that_it_was_not_taken(status: int) -> None:
    async with Stub(reply('{"message": "no"}', f"{status} No")) as stub:
        message = (await ending(stub.url)).message
    assert message.startswith(f"not submitted: the upstream answered {status}")
    assert DOUBT not in message


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504, 524, 301, 302, 303])
async def test_what_proves_nothing_about_a_submit_says_so(status: int) -> None:
    async with Stub(reply('{"message": "no"}', f"{status} No", location="/elsewhere")) as stub:
        assert (await ending(stub.url)).message.endswith(DOUBT)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", reply('{"id"', content_length="99"), reply(""), reply("", "204 No Content")]
)
async def test_an_answer_that_breaks_off_or_names_no_task_proves_nothing(answer: bytes) -> None:
    async with Stub(answer) as stub:
        assert (await ending(stub.url)).message.endswith(DOUBT)


async def test_a_connection_that_never_came_about_proves_that_the_job_was_not_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failed = await ending(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (failed.message.startswith("not submitted: no connection to"), DOUBT in failed.message) == (True, False)
    assert failed.retryable
