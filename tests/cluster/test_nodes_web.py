"""Clients behind a load balancer: each request comes to another node, and what they get is as with one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientResponse, ClientSession

from relay import UpstreamError
from relay.testing import ManualClock
from tests.cluster.house import House, World
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode
from tests.web.serving import serve

LEASE = 10.0
CHAT = "/v1/chat/completions"


class Nodes:
    """Two nodes with their applications, and a client of each."""

    def __init__(self, world: World, houses: list[House], clients: list[ClientSession]) -> None:
        self.world = world
        self.houses = houses
        self.clients = clients

    async def settle(self) -> None:
        assert isinstance(self.world.clock, ManualClock)
        for _ in range(6):
            await self.world.clock.advance(LEASE / 2)


@asynccontextmanager
async def serving(new_jobs_per_minute: int) -> AsyncIterator[Nodes]:
    engine, world = MemoryEngine(), World(ManualClock())
    houses = [House(world, MemoryNode(engine, name), name) for name in ("n0", "n1")]
    one, other = (serve(house.relay, new_jobs_per_minute=new_jobs_per_minute) for house in houses)
    async with one as first, other as second:
        made = Nodes(world, houses, [first, second])
        await made.settle()
        yield made


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with serving(new_jobs_per_minute=100) as made:
        yield made


def chat(prompt: str, model: str = "single", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, **more}


def job_of(response: ClientResponse) -> str:
    return response.headers["X-Relay-Job"]


@pytest.mark.parametrize("upstream", ["listing", "single"])
async def test_requests_with_one_key_at_all_nodes_at_once_are_one_job_and_one_of_them_has_started_it(
    nodes: Nodes, upstream: str
) -> None:
    requests = [
        client.post("/v1/jobs", json={"upstream": upstream, "input": {"a": 1}}, headers={"Idempotency-Key": "k"})
        for client in nodes.clients
        for _ in range(3)
    ]
    answers = await asyncio.gather(*(asyncio.ensure_future(request) for request in requests))
    bodies = [await answer.json() for answer in answers]
    other = await nodes.clients[0].post(
        "/v1/jobs", json={"upstream": upstream, "input": {"a": 2}}, headers={"Idempotency-Key": "k"}
    )

    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    assert len({body["job"] for body in bodies}) == 1
    assert len(nodes.world.submitted) == 1
    assert other.status == 409


@pytest.mark.parametrize("upstream", ["listing", "single"])
async def test_a_job_is_listed_shown_and_cancelled_at_the_node_that_did_not_start_it(
    nodes: Nodes, upstream: str
) -> None:
    first, second = nodes.clients
    for here, there in ((first, second), (second, first)):
        task = f"{upstream} of {'first' if here is first else 'second'}"
        begun = await here.post("/v1/jobs", json={"upstream": upstream, "task": task})
        job = (await begun.json())["job"]
        listed = [one["job"] for one in (await (await there.get("/v1/jobs")).json())["jobs"]]
        shown = await (await there.get(f"/v1/jobs/{job}")).json()
        nodes.world.on_cancel = UpstreamError("refused", "too late")
        refused = await there.post(f"/v1/jobs/{job}/cancel")
        nodes.world.on_cancel = None
        cancelled = await there.post(f"/v1/jobs/{job}/cancel")
        seen = await (await here.get(f"/v1/jobs/{job}")).json()

        assert (begun.status, job in listed, shown["task"]) == (201, True, task)
        assert (refused.status, cancelled.status, seen["status"]) == (502, 202, "cancelled")


@pytest.mark.parametrize("upstream", ["listing", "single"])
async def test_a_start_that_another_node_was_quicker_with_costs_a_client_nothing(upstream: str) -> None:
    async with serving(new_jobs_per_minute=2) as nodes:
        posts = [
            client.post("/v1/jobs", json={"upstream": upstream, "task": "t"}) for client in nodes.clients for _ in "ab"
        ]
        first = await asyncio.gather(*(asyncio.ensure_future(post) for post in posts))
        more = [
            (await client.post("/v1/jobs", json={"upstream": upstream, "task": f"{client is nodes.clients[0]} {n}"}))
            for client in nodes.clients
            for n in range(3)
        ]

        assert sorted(answer.status for answer in first) == [200, 200, 200, 201]
        assert sorted(answer.status for answer in more) == [201, 201, 201, 429, 429, 429]


async def test_chats_with_one_key_are_one_job_at_whichever_node(nodes: Nodes) -> None:
    key = {"Idempotency-Key": "k"}
    posts = [client.post(CHAT, json=chat("a cat"), headers=key) for client in nodes.clients for _ in range(2)]
    responses = await asyncio.gather(*(asyncio.ensure_future(post) for post in posts))
    try:
        assert {response.status for response in responses} == {200}
        assert len(set(map(job_of, responses))) == 1
        assert len(nodes.world.submitted) == 1
    finally:
        for response in responses:
            response.close()


async def test_equal_chats_that_are_open_at_once_at_one_node_are_two_jobs(nodes: Nodes) -> None:
    posts = [nodes.clients[0].post(CHAT, json=chat("a cat")) for _ in range(3)]
    responses = await asyncio.gather(*(asyncio.ensure_future(post) for post in posts))
    try:
        assert len(set(map(job_of, responses))) == 3
        assert len(nodes.world.submitted) == 3
    finally:
        for response in responses:
            response.close()


async def test_a_chat_that_is_repeated_at_another_node_after_its_connection_was_lost_joins_its_job(
    nodes: Nodes,
) -> None:
    first, second = nodes.clients
    begun = await first.post(CHAT, json=chat("a cat"))
    job = job_of(begun)
    begun.close()
    again = await second.post(CHAT, json=chat("a cat"), headers={"x-stainless-retry-count": "1"})
    try:
        assert job_of(again) == job
        assert len(nodes.world.submitted) == 1
    finally:
        again.close()
