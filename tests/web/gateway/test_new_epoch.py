"""Clients of the gateway while the journal of a cluster begins anew: they are shown it, and their streams go on."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientResponse

from tests.cluster.house import FINISHED
from tests.web.nodes import INTERVAL, Served, served
from web.gateway.gateway import GATEWAY

pytestmark = pytest.mark.usefixtures("take_over")

CHAT = ("/v1/chat/completions", {"model": "single", "messages": [{"role": "user", "content": "a cat"}], "stream": True})
RESPONSE = ("/v1/responses", {"model": "single", "input": "a cat", "stream": True, "background": True})
MISSING = b"(earlier lines are not kept any more)"


async def followed_through(one: Served, route: tuple[str, dict[str, Any]]) -> bytes:
    """A stream from before the loss to the end of its job."""
    path, body = route
    async with one.client.post(path, json=body) as response:
        assert response.status == 200
        job = one.house.relay.job(response.headers["X-Relay-Job"])
        came = b""
        while job.state.task is None:
            await one.nodes.advance(INTERVAL)
        one.say(job, "before")
        came += await until(response, b"before")
        await one.all_live(1)
        await one.lose()
        one.say(job, "behind")
        came += await until(response, b"behind")
        assert MISSING in came[came.index(b"before") :]
        assert job.state.task is not None
        one.nodes.world.said[job.state.task] = FINISHED
        await one.nodes.advance(3 * INTERVAL)
        return came + await response.read()


async def until(response: ClientResponse, text: bytes) -> bytes:
    """All up to the end of the block with this *text*."""
    came = b""
    while text not in came:
        came += await response.content.readuntil(b"\n\n")
    return came


async def test_a_chat_shows_that_lines_are_missing_and_goes_on_to_its_end() -> None:
    async with served() as one:
        body = await followed_through(one, CHAT)
    assert body.count(b"[DONE]") == 1
    assert body.index(b"before") < body.index(MISSING) < body.index(b"behind") < body.index(b'"stop"')


async def test_the_numbers_of_a_response_grow_across_a_new_epoch_and_it_resumes_from_the_last_one() -> None:
    async with served() as one:
        body = await followed_through(one, RESPONSE)
        documents = [json.loads(block.split(b"data: ")[1]) for block in body.split(b"\n\n") if b"data: " in block]
        numbers = [document["sequence_number"] for document in documents]
        assert numbers == sorted(set(numbers))
        assert documents[-1]["type"] == "response.completed"
        id = documents[-1]["response"]["id"]
        (state,) = [n for n, document in enumerate(documents) if MISSING.decode() in document.get("delta", "")]
        resumed = await one.client.get(f"/v1/responses/{id}?stream=true&starting_after={numbers[state + 1]}")
        rest = await resumed.read()
    assert rest.count(b"sequence_number") == len(numbers) - state - 2


async def test_a_request_that_waits_sees_what_its_owner_alone_had_read_before_the_loss() -> None:
    async with served(2) as one:
        here, there = one.nodes.houses
        job = await there.relay.requests.follow("single", "t")
        await one.nodes.advance(INTERVAL)
        waiting = asyncio.ensure_future(one.app[GATEWAY].wait_for_end(here.job(job), 3_600))
        one.gates(here).tail.close()
        one.nodes.world.said["t"] = FINISHED
        await one.nodes.advance(3 * INTERVAL)
        assert (there.job(job).ended, here.job(job).ended, waiting.done()) == (True, False, False)
        one.engine.flush()
        one.gates(here).tail.open()
        await one.lose()
        assert await waiting is True
