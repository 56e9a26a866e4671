"""`/v1/chat/completions` over HTTP: the story of the native stream, in chunks, and typed errors where it fails."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from relay import Accepted, MemoryJournal, Record, Relay, Retention
from relay.config.settings import GatewayModel, GatewaySettings
from relay.events import LEVELS
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from tests.web.gateway.serving import chat, documents, gateway, submissions, texts
from tests.web.serving import serve

pytestmark = pytest.mark.usefixtures("take_over")

WEB = "/v1/chat/completions"


@pytest.mark.parametrize("level", LEVELS)
async def test_a_chat_is_the_native_stream_of_its_level_text_for_text(level: str) -> None:
    async with gateway() as house:
        async with house.client.post(WEB, json=chat(stream=True), headers={"X-Relay-Level": level}) as response:
            body = await response.read()
            job = response.headers["X-Relay-Job"]
            assert (response.status, response.content_type) == (200, "text/event-stream")
        async with house.client.get(f"/v1/jobs/{job}/events?level={level}") as native:
            lines = (await native.text()).split("\n")
    records = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert texts(body) == [record["text"] for record in records]
    assert body.endswith(b"data: [DONE]\n\n")


async def test_the_first_chunk_leaves_before_the_upstream_accepts_the_task() -> None:
    accepts = asyncio.Event()

    class Slow(Sora):
        async def submit(self, input: Mapping[str, Any]) -> str:
            await accepts.wait()
            return await super().submit(input)

    clock = ManualClock(auto=True)
    async with (
        ScriptedUpstream(clock=clock) as upstream,
        serve(Relay([Slow(upstream.url, upstream.token, clock=clock)], clock=clock)) as client,
        client.post(WEB, json=chat(stream=True)) as response,
    ):
        first = documents(await response.content.readuntil(b"\n\n"))
        assert first[0]["choices"][0]["delta"]["job"] == response.headers["X-Relay-Job"]
        assert upstream.requests["nf/create"] == 0
        accepts.set()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert upstream.requests["nf/create"] == 1


@pytest.mark.parametrize(
    ("scenario", "code"),
    [("violation", "violation"), ("error-item", "upstream_error"), ("vanishes", "lost"), ("unauthorised", None)],
)
async def test_each_kind_of_failure_is_a_typed_error_and_never_a_finish(scenario: str, code: str | None) -> None:
    async with gateway() as house:
        async with house.client.post(WEB, json=chat(f"[{scenario}] a cat", stream=True)) as response:
            body = await response.read()
        async with house.client.post(WEB, json=chat(f"[{scenario}] a cat")) as waited:
            refusal = await waited.json()
    if code is None:  # the account's trouble passes, and the job succeeds after all
        assert documents(body)[-2]["choices"][0]["finish_reason"] == "stop"
        return
    error, end = documents(body)[-2:]
    assert (error["error"]["type"], error["error"]["code"], end) == ("invalid_request_error", code, "[DONE]")
    assert b'"stop"' not in body
    assert (waited.status, waited.headers["x-should-retry"]) == (400, "false")
    job = waited.headers["X-Relay-Job"]
    assert (refusal["error"]["code"], refusal["error"]["param"]) == (code, job)
    assert refusal["error"]["message"].endswith(f"[{code}] (job {job})")


async def test_a_refused_submission_is_an_error_object_and_not_a_status() -> None:
    request = chat("[no-such-scenario] a cat", stream=True)
    async with gateway() as house, house.client.post(WEB, json=request) as response:
        body = await response.read()
    assert response.status == 200
    assert documents(body)[-2]["error"]["code"] == "upstream_error"


async def test_without_a_stream_the_answer_is_one_completion() -> None:
    async with gateway() as house:
        async with house.client.post(WEB, json=chat()) as response:
            completion = await response.json()
        done = house.relay.job(response.headers["X-Relay-Job"]).snapshot().terminal
    (choice,) = completion["choices"]
    assert completion["object"] == "chat.completion"
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == f"<video src='{done.urls[0]}' controls></video>"  # type: ignore[union-attr]
    assert choice["message"]["reasoning_content"].startswith("accepted for sora\naccepted for sora, task task_")
    assert completion["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


async def test_a_wait_that_ends_before_the_job_names_the_job_and_is_not_repeated() -> None:
    async with gateway(gateway=GatewaySettings(wait=60.0)) as house:
        async with house.client.post(WEB, json=chat("[never-finishes] a cat")) as response:
            error = (await response.json())["error"]
        job = response.headers["X-Relay-Job"]
        assert (response.status, response.headers["x-should-retry"]) == (400, "false")
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "still_running", job)
        assert not house.relay.job(job).ended


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (chat(model="sorax"), 404, "model_not_found", "model"),
        (chat(n=2), 400, "invalid_n", "n"),
        ({"model": "sora", "messages": []}, 400, "invalid_prompt", "messages"),
        ({"model": "sora", "messages": [{"role": "user", "content": " "}]}, 400, "invalid_prompt", None),
        (chat([{"type": "input_audio"}]), 400, "invalid_prompt", "messages[0].content[0]"),
        (
            chat([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://h/a.png"}}]),
            400,
            "unsupported_image",
            "messages",
        ),
        (chat([{"type": "image_url", "image_url": {"url": "file:///a"}}]), 400, "invalid_prompt", None),
        ([], 400, "bad_request", None),
    ],
)
async def test_a_request_that_no_model_can_serve_is_refused_in_the_form_of_the_dialect(
    body: Any, status: int, code: str, param: str | None
) -> None:
    async with gateway() as house:
        async with house.client.post(WEB, json=body) as response:
            error = (await response.json())["error"]
        assert (response.status, set(error)) == (status, {"message", "type", "param", "code"})
        assert error["code"] == code
        assert param is None or error["param"] == param
        assert house.relay.jobs() == []


async def test_errors_elsewhere_stay_problems() -> None:
    async with gateway() as house:
        async with house.client.get("/v1/jobs/job_x") as response:
            assert response.content_type == "application/problem+json"
        async with house.client.get("/v1/chat/nothing") as response:
            assert (await response.json())["error"]["type"] == "not_found_error"


async def test_a_model_selects_its_upstream_its_input_and_its_fields() -> None:
    models = {
        "sora-pro": GatewayModel(upstream="sora", input={"model": "sy_ore", "size": "large"}, reasoning="content")
    }
    async with gateway(gateway=GatewaySettings(models=models)) as house:
        async with house.client.get("/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["sora-pro"]
        async with house.client.post(WEB, json=chat(model="sora-pro", stream=True)) as response:
            first, accepted, *_ = documents(await response.read())
        assert first["model"] == "sora-pro"
        assert accepted["choices"][0]["delta"] == {"content": "accepted for sora\n"}
        (task,) = house.upstream.tasks.values()
        assert (task.input["model"], task.input["size"], task.input["prompt"]) == ("sy_ore", "large", "[happy] a cat")


async def test_a_client_that_comes_back_receives_what_it_missed() -> None:
    headers = {"Idempotency-Key": "k1"}
    async with gateway() as house:
        async with house.client.post(WEB, json=chat(stream=True), headers=headers) as response:
            whole = await response.read()
        async with house.client.post(WEB, json=chat(stream=True), headers=headers) as response:
            again = await response.read()
        parts = whole.split(b"\n\n")
        seen = next(part for part in parts[5:] if b"\nid: " in part)
        position = seen.rpartition(b"\nid: ")[2].decode()
        resumed = {**headers, "Last-Event-ID": position}
        async with house.client.post(WEB, json=chat(stream=True), headers=resumed) as response:
            rest = await response.read()
        assert submissions(house) == 1
    assert texts(again) == texts(whole)
    until = texts(b"\n\n".join(parts[: parts.index(seen) + 1]) + b"\n\n")
    assert until + texts(rest) == texts(whole)


async def test_the_state_of_a_job_whose_records_are_gone_stands_in_their_place() -> None:
    headers = {"Idempotency-Key": "k1"}
    async with gateway(journal=MemoryJournal(Retention(records=20))) as house:
        async with house.client.post(WEB, json=chat(stream=True), headers=headers) as response:
            await response.read()
        async with house.client.post(WEB, json=chat("[violation] a dog", stream=True)) as response:
            await response.read()
        async with house.client.post(WEB, json=chat(stream=True), headers=headers) as response:
            late = documents(await response.read())
        assert late[-2]["choices"][0]["finish_reason"] == "stop"
        assert late[-1] == "[DONE]"
        assert any("content" in document["choices"][0]["delta"] for document in late[1:-1])


async def test_a_shutdown_ends_a_chat_with_an_error_and_answers_a_client_that_waits() -> None:
    async with gateway(auto=False) as house:
        prompt = "[never-finishes] a cat"
        stream = await house.client.post(WEB, json=chat(prompt, stream=True))
        await stream.content.readuntil(b"accepted")
        (first,) = house.relay.jobs()
        arrived = asyncio.Event()

        def receive(record: Record) -> None:
            # The first job is accepted for a second time, once it has its task.
            if isinstance(record.event, Accepted) and record.job != first.id:
                arrived.set()

        with house.relay.bus.subscribe(receive):
            waited = asyncio.ensure_future(house.client.post(WEB, json=chat(prompt, user="b")))
            await arrived.wait()
        body = asyncio.ensure_future(stream.read())
    error, end = documents((await body)[(await body).index(b"\n\n") + 2 :])[-2:]
    assert (error["error"]["type"], error["error"]["code"], end) == (
        "invalid_request_error",
        "relay_shutting_down",
        "[DONE]",
    )
    response = await waited
    assert (response.status, (await response.json())["error"]["code"]) == (400, "relay_shutting_down")


async def test_a_silent_job_shows_a_sign_of_life_with_the_text_of_its_latest_record() -> None:
    async with gateway(auto=False, heartbeat=0.05, sign_of_life=0.1) as house:
        async with house.client.post(WEB, json=chat("[never-finishes] a cat", stream=True)) as response:
            job = house.relay.job(response.headers["X-Relay-Job"])
            while job.state.task is None:
                await response.content.readuntil(b"\n\n")
            seen = b""
            while b'"delta":{}' not in seen:
                seen += await response.content.readuntil(b"\n\n")
        assert b"%" not in seen
        assert b"data: " in seen


@pytest.mark.parametrize("configured", [False, True])
async def test_raw_exchanges_are_lines_of_a_chat_at_level_debug_where_that_is_configured(configured: bool) -> None:
    async with gateway(debug=configured) as house:
        async with house.client.post(WEB, json=chat(stream=True), headers={"X-Relay-Level": "debug"}) as response:
            debug = texts(await response.read())
        async with house.client.post(WEB, json=chat(stream=True)) as response:
            info = texts(await response.read())
        exchanges = [text for text in debug if text.startswith(f"GET {house.upstream.url}")]
        assert bool(exchanges) is configured
        assert all(house.upstream.token not in text for text in debug)
        assert not any(text.startswith("GET ") for text in info)


async def test_an_input_that_the_upstream_is_known_to_refuse_makes_no_job() -> None:
    models = {"sora-long": GatewayModel(upstream="sora", input={"n_frames": "many"})}
    async with gateway(gateway=GatewaySettings(models=models)) as house:
        async with house.client.post(WEB, json=chat(model="sora-long", stream=True)) as response:
            error = (await response.json())["error"]
        async with house.client.post("/v1/videos", json={"prompt": "a cat", "seconds": "4"}) as video:
            other = (await video.json())["error"]
        assert (response.status, video.status) == (400, 400)
        assert (error["code"], other["code"]) == ("invalid_input", "invalid_input")
        assert house.relay.jobs() == []
