"""A job that is still being submitted: what its clients can do with it meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from relay import Relay
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from tests.web.serving import serve


class Held(Sora):
    """Submits once it is allowed to."""

    allowed: asyncio.Event

    async def submit(self, input: Mapping[str, Any]) -> str:
        await self.allowed.wait()
        return await super().submit(input)


@asynccontextmanager
async def held() -> AsyncGenerator[tuple[ClientSession, Held, ManualClock]]:
    clock = ManualClock()
    async with ScriptedUpstream(clock=clock) as scripted:
        upstream = Held(scripted.url, scripted.token, clock=clock)
        upstream.allowed = asyncio.Event()
        async with serve(Relay([upstream], clock=clock)) as client:
            yield client, upstream, clock
            upstream.allowed.set()


BODIES: dict[str, dict[str, object]] = {
    "/v1/videos": {"prompt": "[happy] a cat"},
    "/v1/responses": {"model": "sora", "input": "[happy] a cat", "background": True},
}


async def create(client: ClientSession, path: str) -> str:
    async with client.post(path, json=BODIES[path]) as response:
        assert response.status == 200
        created: str = (await response.json())["id"]
        return created


CANCELS = [("/v1/videos", "DELETE", ""), ("/v1/responses", "POST", "/cancel")]


@pytest.mark.parametrize(("path", "method", "suffix"), CANCELS)
async def test_a_cancellation_waits_for_the_task_that_it_cancels(path: str, method: str, suffix: str) -> None:
    async with held() as (client, upstream, clock):
        id, asleep = await create(client, path), clock.sleepers
        cancelling = asyncio.ensure_future(client.request(method, f"{path}/{id}{suffix}"))
        await clock.sleeping(asleep + 1)
        upstream.allowed.set()
        assert (await cancelling).status == 200


@pytest.mark.parametrize(("path", "method", "suffix"), CANCELS)
async def test_a_cancellation_that_waited_in_vain_says_so_with_a_status_that_no_client_repeats(
    path: str, method: str, suffix: str
) -> None:
    async with held() as (client, _, clock):
        id, asleep = await create(client, path), clock.sleepers
        cancelling = asyncio.ensure_future(client.request(method, f"{path}/{id}{suffix}"))
        await clock.sleeping(asleep + 1)
        await clock.advance(30)
        refused = await cancelling
        assert (refused.status, (await refused.json())["error"]["code"]) == (400, "still_submitting")
