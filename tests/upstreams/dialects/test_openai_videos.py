"""OpenAI's videos are read as they are really sent; its own client takes what the scripted server sends."""

import json
from datetime import UTC, datetime

import openai
import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock, ScriptedOpenAIVideos
from relay.upstreams import Cancels, FetchesResults, OpenAIVideos, Submits, Upstream
from tests.upstreams.stub import Stub, reply

# OpenAI ended its own videos; its client is still what gateways of this dialect are used with.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


async def seen(headers: dict[str, str] | None = None, /, **video: object) -> Observation | UpstreamError:
    body = json.dumps({"id": "v", "object": "video", "status": "in_progress", **video})
    async with Stub(reply(body, **(headers or {}))) as stub, OpenAIVideos(f"{stub.url}/v1", "canary-1") as upstream:
        answer = (await upstream.observe(["v"])).tasks["v"]
    assert stub.paths == ["/v1/videos/v"]
    assert b"Authorization: Bearer canary-1\r\n" in stub.requests[0]
    return answer


async def observed(headers: dict[str, str] | None = None, /, **video: object) -> Observation:
    answer = await seen(headers, **video)
    assert isinstance(answer, Observation), answer
    return answer


def test_it_submits_and_neither_cancels_nor_keeps_results_elsewhere() -> None:
    upstream = OpenAIVideos("https://gateway/v1", "token")
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, True, False, False]


@pytest.mark.parametrize(
    ("wire", "percent", "source", "raw"),
    [
        (0, 0, "reported", None),
        (1, 1, "reported", None),
        (42, 42, "reported", None),
        (99.6, 99, "reported", None),
        (100, 100, "reported", None),
        (170, 100, "reported", "170"),
        (-3, 0, "reported", "-3"),
        ("42%", 42, "parsed", "42%"),
        ("soon", None, None, "soon"),
        (True, None, None, "true"),
        (None, None, None, None),
        ({"of": 100}, None, None, '{"of": 100}'),
        (float("nan"), None, None, "NaN"),
        (float("inf"), None, None, "Infinity"),
    ],
)
async def test_progress_is_whole_percent(wire: object, percent: int | None, source: str, raw: str | None) -> None:
    answer = await observed(progress=wire)
    assert (answer.percent, answer.source, answer.raw_percent) == (percent, source, raw)


@pytest.mark.parametrize(
    ("word", "status"), [("queued", "queued"), ("in_progress", "running"), ("renderring", "unknown")]
)
async def test_what_goes_on_goes_on_whatever_the_word(word: str, status: str) -> None:
    answer = await observed(status=word, progress=7)
    assert (answer.status, answer.raw_status, answer.percent, answer.failure, answer.result) == (
        status,
        word,
        7,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1500", 1.5), (" 250 ", 0.25), ("soon", None), ("-5", None), ("1e3", None), ("9" * 40, None)],
)
async def test_the_wish_not_to_be_polled_sooner_is_handed_on_in_seconds(header: str, seconds: float | None) -> None:
    assert (await observed({"openai_poll_after_ms": header})).poll_after == seconds


async def test_a_completed_video_is_where_its_content_is_until_it_expires() -> None:
    expires = datetime(2026, 1, 2, tzinfo=UTC)
    body = json.dumps({"status": "completed", "expires_at": int(expires.timestamp())})
    async with Stub(reply(body)) as stub, OpenAIVideos(f"{stub.url}/v1/", "token") as upstream:
        answer = await upstream.observe(["video_a b"])
    assert answer.tasks["video_a b"] == Observation(
        status="succeeded",
        raw_status="completed",
        result=Result(urls=(f"{stub.url}/v1/videos/video_a%20b/content",), expires=expires),
    )


@pytest.mark.parametrize("expires", [None, 0, -1, "soon", 1e300, True])
async def test_an_expiry_that_is_no_time_is_none(expires: object) -> None:
    result = (await observed(status="completed", expires_at=expires)).result
    assert result is not None
    assert result.expires is None


@pytest.mark.parametrize(
    ("video", "failure"),
    [
        (
            {"status": "failed", "error": {"code": "video_generation_failed", "message": "It broke."}},
            Failure(kind="upstream", message="It broke.", retryable=True),
        ),
        (
            {"status": "failed", "error": {"code": "moderation_blocked", "message": "Blocked."}},
            Failure(kind="policy", message="Blocked."),
        ),
        (
            {"status": "failed", "error": None},
            Failure(kind="upstream", message="the upstream says 'failed'", retryable=True),
        ),
        (
            {"status": "failed", "error": {"code": "oops", "message": None}},
            Failure(kind="upstream", message="oops", retryable=True),
        ),
        ({"status": "failed", "error": "no"}, Failure(kind="upstream", message="no", retryable=True)),
        (
            {"status": "failed", "error": {"code": "x", "message": "canary-1 is spent"}},
            Failure(kind="upstream", message="*** is spent", retryable=True),
        ),
        ({"status": "cancelled"}, Failure(kind="cancelled", message="the upstream says 'cancelled'")),
    ],
)
async def test_a_failure_is_said_with_its_kind_and_reason_and_no_figure(
    video: dict[str, object], failure: Failure
) -> None:
    answer = await observed(progress=100, **video)
    assert (answer.failure, answer.result, answer.percent) == (failure, None, None)


async def test_what_is_completed_with_an_error_has_failed() -> None:
    answer = await observed(status="completed", error={"code": "moderation_blocked", "message": "Blocked."})
    assert (answer.status, answer.result, answer.failure) == (
        "failed",
        None,
        Failure(kind="policy", message="Blocked."),
    )


async def test_an_error_in_place_of_a_video_is_a_failed_poll_and_ends_nothing() -> None:
    answer = await seen(status=None, error={"code": "no_credit", "message": "No credit."})
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, answer.message) == ("refused", "the upstream tells of no video: No credit.")


async def test_a_body_of_another_form_names_the_field_and_not_what_it_holds() -> None:
    answer = await seen(status=["canary-2"])
    assert isinstance(answer, UpstreamError)
    assert (answer.kind, "$.status" in answer.message, "canary" in answer.message) == ("malformed", True, False)


async def test_it_submits_what_it_is_given_and_refuses_what_has_no_prompt() -> None:
    body = '{"id": "video_1", "status": "queued"}'
    async with Stub(reply(body)) as stub, OpenAIVideos(f"{stub.url}/v1", "token") as upstream:
        assert await upstream.submit({"prompt": "a cat", "seconds": "8", "anything": 1}) == "video_1"
        with pytest.raises(UsageError, match="the input needs the key 'prompt', a text that is not empty"):
            await upstream.submit({"prompt": " "})
    assert stub.paths == ["/v1/videos"]
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == {"prompt": "a cat", "seconds": "8", "anything": 1}


async def test_the_official_client_takes_what_the_scripted_server_sends_from_submit_to_content() -> None:
    clock = ManualClock()
    async with ScriptedOpenAIVideos(clock=clock) as server:
        server.poll_after_ms = 1500
        async with openai.AsyncOpenAI(base_url=server.url, api_key=server.token, max_retries=0) as client:
            video = await client.videos.create(prompt="a cat", model="sora-2", seconds="8", size="1280x720")
            told = [(video.status, video.progress)]
            while video.status not in ("completed", "failed"):
                await clock.advance(10)
                answer = await client.videos.with_raw_response.retrieve(video.id)
                video = answer.parse()
                told.append((video.status, video.progress))
                assert (answer.headers.get("openai-poll-after-ms") == "1500") == (video.status != "completed")
            content = await client.videos.download_content(video.id)
            assert (await client.videos.poll(video.id)).status == "completed"
            with pytest.raises(openai.NotFoundError):
                await client.videos.retrieve("video_none")
    assert told == [
        ("queued", 0),
        ("in_progress", 9),
        ("in_progress", 43),
        ("in_progress", 74),
        ("in_progress", 100),
        ("completed", 100),
    ]
    assert (video.seconds, video.size, video.model) == ("8", "1280x720", "sora-2")
    assert content.read().startswith(b"\0\0\0\x18ftyp")


async def test_the_official_client_understands_the_scripted_servers_refusals() -> None:
    clock = ManualClock()
    async with ScriptedOpenAIVideos(clock=clock) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.videos.retrieve("video_1")
        async with openai.AsyncOpenAI(base_url=server.url, api_key=server.token, max_retries=0) as client:
            failed = await client.videos.create(prompt="[violation] a cat")
            limited = server.add_task("rate-limited")
            await clock.advance(20)
            with pytest.raises(openai.RateLimitError) as busy:
                await client.videos.retrieve(limited)
            await clock.advance(30)
            video = await client.videos.retrieve(failed.id)
            with pytest.raises(openai.NotFoundError):
                await client.videos.download_content(failed.id)
    assert (refused.value.code, busy.value.code, busy.value.response.headers["Retry-After"]) == (
        "token_invalidated",
        "rate_limit_exceeded",
        "5",
    )
    assert video.error is not None
    assert (video.status, video.error.code) == ("failed", "moderation_blocked")
