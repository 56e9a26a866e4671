"""The scripted upstream is a real server, and speaks the dialect with all its fields and all its faults."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Observation, Result
from relay.testing import SCENARIOS, ManualClock, Moment, Scenario, ScriptedUpstream
from relay.upstreams import Sora

CREATE = {
    "kind": "video",
    "prompt": "a cat",
    "orientation": "landscape",
    "size": "small",
    "n_frames": 300,
    "model": "sy_8",
    "inpaint_items": [],
}


class Caller:
    """Asks a scripted upstream as any HTTP client would, with its token."""

    def __init__(self, upstream: ScriptedUpstream, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def __call__(
        self, path: str, body: Any = None, *, method: str | None = None, token: str | None = None
    ) -> tuple[int, Any]:
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {"Authorization": f"Bearer {token or self._upstream.token}"}
        method = method or ("GET" if body is None else "POST")
        async with self._session.request(
            method, f"{self._upstream.url}/{path}", data=data, headers=headers
        ) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(text) if is_json else text


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def upstream(clock: ManualClock) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(clock=clock) as upstream:
        yield upstream


@pytest.fixture
async def ask(upstream: ScriptedUpstream) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(upstream, session)


async def test_it_listens_on_loopback_at_a_free_port(upstream: ScriptedUpstream) -> None:
    assert upstream.url.startswith("http://127.0.0.1:")
    assert upstream.url.endswith("/backend")


async def test_it_has_no_address_before_it_runs() -> None:
    with pytest.raises(UsageError, match="no address yet"):
        _ = ScriptedUpstream().url


async def test_a_port_that_is_taken_is_one_clear_line(upstream: ScriptedUpstream) -> None:
    port = int(upstream.url.split(":")[2].split("/")[0])
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}: .*in use; try --port 0"):
        await ScriptedUpstream(port=port).__aenter__()


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(UsageError, match="no scenario 'hapy'"):
        ScriptedUpstream(scenario="hapy")


async def test_create_answers_with_an_id_and_the_account_s_balance(ask: Caller, upstream: ScriptedUpstream) -> None:
    status, body = await ask("nf/create", CREATE)
    assert (status, body["id"] in upstream.tasks, body["id"][:7]) == (200, True, "task_01")
    assert set(body) == {"id", "priority", "task_type", "rate_limit_and_credit_balance"}


async def test_pending_lists_all_the_account_s_tasks_with_all_the_fields(
    ask: Caller, upstream: ScriptedUpstream
) -> None:
    first, second = upstream.add_task(), upstream.add_task("flat")
    status, body = await ask("nf/pending/v2")
    assert (status, [item["id"] for item in body]) == (200, [first, second])
    assert (body[0]["status"], body[0]["progress_pct"], body[0]["height"], body[0]["width"]) == (
        "preprocessing",
        None,
        640,
        352,
    )
    assert set(body[0]) >= {
        *("id", "type", "status", "progress_pct", "progress_pos_in_queue", "estimated_queue_wait_time", "priority"),
        *(
            "queue_status_message",
            "n_variants",
            "n_frames",
            "height",
            "width",
            "seed",
            "guidance",
            "operation",
            "model",
        ),
        *("prompt", "title", "actions", "storyboard_id", "preset_id", "story_id", "project_id", "organization_id"),
        *("request_id", "tracking_id", "user", "created_at", "inpaint_items", "generations", "num_unsafe_generations"),
        *("interpolation", "sdedit", "remix_config", "is_storyboard", "moderation_result", "failure_reason"),
        "needs_user_review",
    }


async def test_a_task_that_is_done_moves_to_the_drafts(
    ask: Caller, upstream: ScriptedUpstream, clock: ManualClock
) -> None:
    task = upstream.add_task(input={"prompt": "a cat", "size": "large", "orientation": "landscape"})
    assert await ask("project_y/profile/drafts/v2?limit=15") == (200, {"items": [], "cursor": None})
    await clock.advance(41)
    assert await ask("nf/pending/v2") == (200, [])
    for path in ("project_y/profile/drafts/v2?limit=15", "project_y/profile/drafts"):
        status, body = await ask(path)
        (draft,) = body["items"]
        assert (status, draft["task_id"], draft["kind"]) == (200, task, "sora_draft")
        assert (draft["id"][:6], draft["prompt"], draft["height"], draft["width"]) == ("gen_01", "a cat", 704, 1280)


async def test_the_url_of_a_draft_is_signed_and_leads_to_a_file(
    ask: Caller, upstream: ScriptedUpstream, clock: ManualClock
) -> None:
    upstream.add_task()
    await clock.advance(41)
    url = (await ask("project_y/profile/drafts/v2"))[1]["items"][0]["url"]
    assert "?se=2026-01-02T00%3A00%3A00Z&sp=r&sig=" in url
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert (response.status, response.content_type) == (200, "video/mp4")
        assert (await response.read())[4:8] == b"ftyp"


async def test_drafts_are_the_newest_first_and_the_oldest_drop_out(
    ask: Caller, upstream: ScriptedUpstream, clock: ManualClock
) -> None:
    tasks = [upstream.add_task() for _ in range(17)]
    await clock.advance(41)
    _, body = await ask("project_y/profile/drafts/v2?limit=15")
    assert [item["task_id"] for item in body["items"]] == tasks[:1:-1]


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", ""])
async def test_a_limit_that_is_none_is_refused(ask: Caller, limit: str) -> None:
    status, body = await ask(f"project_y/profile/drafts/v2?limit={limit}")
    assert (status, body["error"]["code"]) == (400, "invalid_value")


async def test_an_account_without_the_newer_drafts_has_the_older(clock: ManualClock) -> None:
    async with ScriptedUpstream(clock=clock, drafts_v2=False) as upstream, Sora(upstream.url, upstream.token) as sora:
        task = upstream.add_task()
        await clock.advance(41)
        answer = await sora.fetch_result([task])
    assert list(answer.tasks) == [task]
    assert upstream.requests == {"project_y/profile/drafts/v2": 1, "project_y/profile/drafts": 1}


@pytest.mark.parametrize(
    "path", ["nf/create", "nf/pending/v2", "project_y/profile/drafts", "project_y/profile/drafts/v2"]
)
async def test_a_wrong_token_is_refused_everywhere_in_the_upstream_s_form(ask: Caller, path: str) -> None:
    body = {
        "error": {
            "message": "The authentication token is not valid.",
            "type": "invalid_request_error",
            "code": "token_invalidated",
            "param": None,
        },
        "status": 401,
    }
    assert await ask(path, CREATE if path == "nf/create" else None, token="wrong") == (401, body)


async def test_a_missing_token_is_refused(upstream: ScriptedUpstream) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{upstream.url}/nf/pending/v2") as response:
        assert response.status == 401


async def test_nothing_else_is_there(ask: Caller) -> None:
    for path, method in (("nf/check", "GET"), ("nf/create", "GET"), ("nf/pending/v2", "DELETE")):
        status, body = await ask(path, method=method)
        assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "'prompt' must be"),
        ({"prompt": None}, "'prompt' must be"),
        ({"kind": "image"}, "'kind' must be one of video"),
        ({"orientation": "square"}, "'orientation' must be one of portrait, landscape"),
        ({"size": 1}, "'size' must be one of small, large"),
        ({"n_frames": 301}, "'n_frames' must be one of 300, 450, 750"),
        ({"model": ["sy_8"]}, "'model' must be one of sy_8, sy_ore"),
        ({"inpaint_items": None}, "'inpaint_items' must be a list"),
        ({"prompt": "[hapy] a cat"}, "no scenario 'hapy'"),
    ],
)
async def test_a_bad_create_is_refused(
    ask: Caller, upstream: ScriptedUpstream, change: dict[str, Any], words: str
) -> None:
    status, body = await ask("nf/create", CREATE | change)
    assert (status, words in body["error"]["message"], upstream.tasks) == (400, True, {}), body


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"", 400), (b"[]", 400), (b"7", 400), (b"\xff", 400), (b" " * 1_200_000, 413)]
)
async def test_a_create_that_is_no_object_is_refused(ask: Caller, body: bytes, status: int) -> None:
    assert (await ask("nf/create", body, method="POST"))[0] == status


async def test_the_prompt_chooses_the_scenario(ask: Caller, upstream: ScriptedUpstream) -> None:
    for prompt, scenario in (("[gap] a cat", "gap"), ("[trace-b]", "trace-b"), ("a [gap] cat", "happy")):
        _, body = await ask("nf/create", CREATE | {"prompt": prompt})
        assert upstream.tasks[body["id"]].scenario is SCENARIOS[scenario]


async def test_the_default_scenario_may_be_of_ones_own(clock: ManualClock) -> None:
    own = Scenario("own", "done at once", ((0.0, Moment(where="drafts")),))
    async with ScriptedUpstream(clock=clock, scenario=own) as upstream, Sora(upstream.url, upstream.token) as sora:
        task = await sora.submit({"prompt": "a cat"})
        (answer,) = (await sora.fetch_result([task])).tasks.values()
    assert isinstance(answer, Observation)
    assert isinstance(answer.result, Result)
    assert (answer.result.media_types, answer.result.expires) == (
        ("video/mp4",),
        datetime.fromisoformat("2026-01-02T00:00:00+00:00"),
    )


@pytest.mark.parametrize(
    ("scenario", "kind", "retry_after", "words"),
    [
        ("unauthorised", "auth", None, "the upstream answered 401: The authentication token has expired."),
        ("rate-limited", "rate-limit", 5.0, "the upstream answered 429: Too many requests."),
        ("html", "auth", None, "the upstream answered 403: an HTML page"),
        ("not-a-list", "malformed", None, "the list of pending tasks is an object, not a list"),
    ],
)
async def test_an_outage_befalls_the_whole_account_and_passes(
    clock: ManualClock, upstream: ScriptedUpstream, scenario: str, kind: str, retry_after: float | None, words: str
) -> None:
    other = upstream.add_task("never-finishes")
    upstream.add_task(scenario)
    async with Sora(upstream.url, upstream.token, clock=clock) as sora:
        await clock.advance(14.9)
        assert other in (await sora.observe([other])).tasks
        await clock.advance(0.1)
        with pytest.raises(UpstreamError) as caught:
            await sora.observe([other])
        assert (caught.value.kind, caught.value.retry_after, str(caught.value)) == (kind, retry_after, words)
        await clock.advance(12.0)
        assert other in (await sora.observe([other])).tasks


async def test_a_slow_answer_comes_when_the_clock_says_so(clock: ManualClock, upstream: ScriptedUpstream) -> None:
    task = upstream.add_task("slow")
    await clock.advance(10.0)
    async with Sora(upstream.url, upstream.token) as sora:
        asking = asyncio.create_task(sora.observe([task]))
        await clock.sleeping()
        await clock.advance(5.9)
        assert not asking.done()
        await clock.advance(0.1)
        assert (await asking).listed == 1


async def test_a_slow_answer_that_nobody_waits_for_any_more_is_given_up(
    clock: ManualClock, upstream: ScriptedUpstream
) -> None:
    upstream.add_task("slow")
    await clock.advance(10.0)
    async with Sora(upstream.url, upstream.token) as sora:
        asking = asyncio.create_task(sora.observe(["any"]))
        await clock.sleeping()
        asking.cancel()
        await asyncio.wait([asking])
    await clock.advance(1.0)
    assert clock.sleepers == 0


async def test_a_server_with_slow_answers_under_way_stops_at_once(clock: ManualClock) -> None:
    async with aiohttp.ClientSession() as session:
        async with ScriptedUpstream(clock=clock) as upstream:
            upstream.add_task("slow")
            await clock.advance(10.0)
            asking = asyncio.create_task(Caller(upstream, session)("nf/pending/v2"))
            await clock.sleeping()
        with pytest.raises(aiohttp.ClientError):
            await asking
    assert clock.sleepers == 0


async def test_figures_that_json_forbids_are_sent_as_they_are(clock: ManualClock, upstream: ScriptedUpstream) -> None:
    upstream.add_task("garbage")
    headers = {"Authorization": f"Bearer {upstream.token}"}
    sent = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(9):
            async with session.get(f"{upstream.url}/nf/pending/v2") as response:
                sent.append((await response.text()).split('"progress_pct": ')[1].split(', "progress_pos')[0])
            await clock.advance(5.0)
    assert sent == ["null", "-3", '"42%"', "NaN", "Infinity", "true", '{"value": 0.5}', "0.5", "1.7"]


async def test_requests_are_counted_for_anybody_to_see(ask: Caller, upstream: ScriptedUpstream) -> None:
    for _ in range(3):
        await ask("nf/pending/v2")
    await ask("nf/pending/v2", token="wrong")
    await ask("nf/create", CREATE)
    async with aiohttp.ClientSession() as session, session.get(upstream.url.replace("backend", "requests")) as response:
        counted = await response.json()
    assert counted == dict(upstream.requests) == {"nf/pending/v2": 4, "nf/create": 1}


def test_relay_testing_needs_no_test_runner_and_its_clock_no_http() -> None:
    program = (
        "import sys, relay.testing; relay.testing.ManualClock; print('aiohttp' in sys.modules);"
        "relay.testing.ScriptedUpstream; print('pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
