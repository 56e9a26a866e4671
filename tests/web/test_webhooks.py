"""An upstream that calls back has its job polled at once; who else calls learns nothing, and no call is believed."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession
from replicate.webhook import Webhooks as ReplicateSdk
from replicate.webhook import WebhookSigningSecret
from yarl import URL

from relay import Record, Relay
from relay.events import Exchange, Received
from relay.jobs import Job
from relay.testing import (
    ManualClock,
    ScriptedFal,
    ScriptedItems,
    ScriptedKling,
    ScriptedLuma,
    ScriptedMiniMax,
    ScriptedReplicate,
)
from relay.upstreams import Fal, Kling, Luma, MiniMax, PerTaskUpstream, Replicate
from relay.webhooks import WebhookKeys, Webhooks, challenge
from tests.web.serving import serve_app
from web import create_app

SECRET = "canary-of-the-relay-itself"
KEY = "whsec_" + base64.b64encode(b"canary-of-replicate").decode()

DIALECTS: dict[str, tuple[type[ScriptedItems], type[PerTaskUpstream], dict[str, Any], str]] = {
    "replicate": (ScriptedReplicate, Replicate, {"version": "v", "input": {"prompt": "a cat"}}, "webhook"),
    "fal": (ScriptedFal, Fal, {"model": "fal-ai/flux", "prompt": "a cat"}, "fal_webhook"),
    "luma": (ScriptedLuma, Luma, {"model": "ray-2", "prompt": "a cat"}, "callback_url"),
    "kling": (ScriptedKling, Kling, {"prompt": "a cat"}, "callback_url"),
    "minimax": (ScriptedMiniMax, MiniMax, {"model": "m", "prompt": "a cat"}, "callback_url"),
}


class Stage:
    """A scripted upstream, a relay that asks it to call back, and who calls; time stands still."""

    def __init__(self, clock: ManualClock, server: ScriptedItems, relay: Relay, web: ClientSession) -> None:
        self.clock = clock
        self.server = server
        self.relay = relay
        self.web = web
        self.polls = 0
        self.polled = asyncio.Event()

    def hear(self, record: Record) -> None:
        if isinstance(record.event, Received):
            self.polls += 1
            self.polled.set()

    async def submitted(self, name: str, input: dict[str, Any]) -> Job:
        """A job that has had its first poll."""
        job = self.relay.submit(name, input)
        with self.relay.bus.subscribe(self.hear, after=0):
            await self.next_poll()
        self.relay.bus.subscribe(self.hear)
        return job

    async def next_poll(self) -> None:
        async with asyncio.timeout(30):
            await self.polled.wait()
        self.polled.clear()

    def called(self, key: str) -> str:
        """The path of the address that the upstream was asked to call."""
        (task,) = self.server.tasks.values()
        url = URL(task.input[key])
        assert url.origin() == URL("https://relay.example")
        return url.raw_path


@asynccontextmanager
async def stage(name: str, *, key: str | None = None, asked: bool = True) -> AsyncGenerator[Stage]:
    scripted, adapter, _, _ = DIALECTS[name]
    clock = ManualClock()
    keys = WebhookKeys(lambda: SECRET, None if key is None else lambda: key)
    webhooks = Webhooks("https://relay.example/", {name: keys}, clock=clock) if asked else None
    async with scripted(clock=clock, scenario="never-finishes") as server:
        relay = Relay([adapter(server.url, server.token, clock=clock)], webhooks=webhooks, clock=clock)
        # A body that nobody reads is waited for, up to ten seconds, unless the server may shut down sooner.
        async with relay, serve_app(create_app(relay), shutdown_timeout=0.1) as web:
            yield Stage(clock, server, relay, web)


def signed(body: bytes, *, at: int = 1767225600, id: str = "msg_1", key: str = KEY) -> dict[str, str]:
    mac = hmac.new(base64.b64decode(key[6:]), f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1a,ignored v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signature}


async def answered(web: ClientSession, path: str, body: Any = b"{}", **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await web.post(URL(path, encoded=True), data=body, headers=named)
    return response.status, await response.read()


@pytest.mark.parametrize("name", DIALECTS)
async def test_each_upstream_that_can_is_asked_to_call_and_its_call_brings_a_poll_while_no_time_passes(
    name: str,
) -> None:
    async with stage(name) as on:
        job = await on.submitted(name, DIALECTS[name][2])
        await on.clock.advance(1.0)
        path = on.called(DIALECTS[name][3])
        assert path.startswith(f"/v1/webhooks/{name}/{job.id}/cb_")
        assert await answered(on.web, path, b'{"status": "succeeded", "output": "https://evil/a.mp4"}') == (204, b"")
        await on.next_poll()
        assert (on.clock.monotonic(), on.polls) == (1.0, 2)
        assert not job.ended, "what the call says is not believed"


async def test_replicate_is_asked_for_calls_that_tell_of_progress() -> None:
    async with stage("replicate") as on:
        await on.submitted("replicate", DIALECTS["replicate"][2])
        (task,) = on.server.tasks.values()
        assert task.input["webhook_events_filter"] == ["start", "logs", "completed"]


@pytest.mark.parametrize("name", DIALECTS)
async def test_whom_the_input_itself_asks_to_be_called_is_called(name: str) -> None:
    own = {DIALECTS[name][3]: "https://mine.example/hook"}
    async with stage(name) as on:
        await on.submitted(name, {**DIALECTS[name][2], **own})
        (task,) = on.server.tasks.values()
        assert task.input[DIALECTS[name][3]] == "https://mine.example/hook"


async def test_without_the_setting_nobody_is_asked_to_call_and_no_call_is_taken() -> None:
    async with stage("luma", asked=False) as on:
        job = await on.submitted("luma", DIALECTS["luma"][2])
        (task,) = on.server.tasks.values()
        status, _ = await answered(on.web, f"/v1/webhooks/luma/{job.id}/cb_{'A' * 43}")
    assert ("callback_url" in task.input, status) == (False, 401)


async def test_whatever_is_wrong_with_a_call_the_answer_is_the_same() -> None:
    async with stage("luma") as on:
        job = await on.submitted("luma", DIALECTS["luma"][2])
        token = on.called("callback_url").rpartition("/")[2]
        assert on.relay.webhooks is not None
        unknown = URL(on.relay.webhooks.url("luma", "job_unknown") or "").raw_path
        wrong = [
            f"/v1/webhooks/luma/{job.id}/cb_{'A' * 43}",
            f"/v1/webhooks/luma/{job.id}/%00",
            f"/v1/webhooks/luma/{job.id}/{token[:-1]}",
            f"/v1/webhooks/luma/{job.id}0/{token}",
            f"/v1/webhooks/kling/{job.id}/{token}",
            unknown,
        ]
        answers = {await answered(on.web, path) for path in wrong}
        polls = on.polls
    ((status, body),) = answers
    assert (status, json.loads(body)["detail"], polls) == (401, "this call does not prove where it comes from", 1)


async def test_a_call_with_a_huge_body_is_refused() -> None:
    async with stage("luma") as on:
        await on.submitted("luma", DIALECTS["luma"][2])
        status, _ = await answered(on.web, on.called("callback_url"), BytesIO(b"x" * (1024 * 1024 + 1)))
    assert (status, on.polls) == (413, 1)


async def test_a_flood_of_calls_makes_no_more_polls_than_one_in_a_fifth_of_a_second() -> None:
    async with stage("luma") as on:
        await on.submitted("luma", DIALECTS["luma"][2])
        path = on.called("callback_url")
        for _ in range(10):
            for _ in range(10):
                assert (await answered(on.web, path))[0] == 204
            await on.clock.advance(0.1)
    assert 4 <= on.polls <= 6


async def test_minimax_is_told_its_challenge_which_makes_it_trust_the_address() -> None:
    async with stage("minimax") as on:
        await on.submitted("minimax", DIALECTS["minimax"][2])
        path = on.called("callback_url")
        status, body = await answered(on.web, path, b'{"challenge": "a-b-c"}')
        forged = await answered(on.web, path[:-1], b'{"challenge": "a-b-c"}')
    assert (status, json.loads(body), forged[0]) == (200, {"challenge": "a-b-c"}, 401)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"challenge": 5}', 5),
        (b'{"challenge": ["a"]}', None),
        (b'{"challenge": "' + b"x" * 1025 + b'"}', None),
        (b"[1]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_only_a_short_challenge_is_told_back(body: bytes, asked: object) -> None:
    assert challenge(body) == asked


async def test_a_signed_call_wakes_once_and_not_when_it_is_replayed_old_or_changed() -> None:
    async with stage("replicate", key=KEY) as on:
        await on.submitted("replicate", DIALECTS["replicate"][2])
        path, body = on.called("webhook"), b'{"id": "p", "status": "succeeded"}'
        now = 1767225600

        async def call(headers: dict[str, str]) -> int:
            return (await answered(on.web, path, body, **headers))[0]

        first = await call(signed(body))
        again = await call(signed(body))
        resent = await call(signed(body, at=now + 20))
        assert [first, again, resent] == [204, 401, 204]
        wrong = [
            {},
            signed(body, at=now - 301, id="old"),
            signed(body, at=now + 301, id="early"),
            signed(b"other", id="changed"),
            signed(body, id="foreign", key="whsec_" + base64.b64encode(b"another").decode()),
            {**signed(body, id="twice"), "webhook-timestamp": "soon"},
            {**signed(body, id="bare"), "webhook-signature": "v1,"},
        ]
        assert [await call(headers) for headers in wrong] == [401] * len(wrong)


def test_what_the_tests_sign_is_what_replicates_own_client_takes() -> None:
    body = '{"id": "p"}'
    headers = {**signed(body.encode()), "webhook-signature": signed(body.encode())["webhook-signature"].split(" ")[1]}
    ReplicateSdk.validate(headers=headers, body=body, secret=WebhookSigningSecret(key=KEY))


async def test_the_token_of_an_address_is_in_no_exchange_wherever_the_upstream_repeats_it() -> None:
    for name in ("replicate", "fal"):
        async with stage(name) as on:
            heard: list[Exchange] = []
            on.relay.bus.subscribe_exchanges(heard.append)
            await on.submitted(name, DIALECTS[name][2])
            token = on.called(DIALECTS[name][3]).rpartition("/")[2]
        assert any("cb_***" in repr(exchange) for exchange in heard)
        assert not any(token in repr(exchange) for exchange in heard)


async def test_a_page_of_another_origin_cannot_call_even_with_the_address() -> None:
    async with stage("luma") as on:
        await on.submitted("luma", DIALECTS["luma"][2])
        status, _ = await answered(on.web, on.called("callback_url"), Origin="https://evil.example")
    assert status == 403


def test_an_address_is_good_after_a_restart_and_not_once_the_secret_is_another() -> None:
    def made(secret: str) -> Webhooks:
        return Webhooks("https://r", {"luma": WebhookKeys(lambda: secret)})

    token = (made(SECRET).url("luma", "job_1") or "").rpartition("/")[2]
    assert made(SECRET).allows("luma", "job_1", token)
    assert not made(SECRET + "2").allows("luma", "job_1", token)
    assert (made(SECRET).url("fal", "job_1"), made(SECRET).allows("fal", "job_1", token)) == (None, False)
    assert SECRET not in repr(WebhookKeys(lambda: SECRET))
