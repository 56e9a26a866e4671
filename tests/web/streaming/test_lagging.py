"""A client that comes from another node of a cluster finds what it knew there, or is sent away with its cursor."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from relay import Job
from tests.cluster.house import Cluster, House, cluster
from tests.cluster.memory_node import MemoryNode
from tests.web.serving import serve
from tests.web.streaming.client import Block, blocks

INTERVAL = 2.5


class Place:
    """Two nodes with a job of the first, and a client of the second, whose tail stands still while `tail` is closed."""

    def __init__(self, nodes: Cluster, here: House, job: Job, client: ClientSession) -> None:
        assert isinstance(here.journal, MemoryNode)
        self.nodes, self.here, self.job, self.client = nodes, here, job, client
        self.journal = here.journal

    @property
    def position(self) -> str:
        """The newest position of the other node."""
        (other,) = self.nodes.others(self.here)
        return f"{other.journal.epoch}-{other.journal.head}"

    async def looks(self) -> None:
        """Return once the node has looked at what the engine has, for a client that knows more than it does."""
        await self.journal.requests.holds()
        self.journal.requests.open()
        await self.journal.acknowledged()

    async def read(self, count: int, path: str, position: str) -> list[Block]:
        """The first *count* blocks of a stream, or all."""
        received = b""
        async with self.client.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": position}) as answer:
            assert answer.status == 200
            async for chunk in answer.content.iter_any():
                received += chunk
                if received.count(b"\n\n") >= count:
                    break
        return list(blocks(received.replace(b":\n", b"")))


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("listing", "t")
        (here,) = nodes.others(nodes.owner(job))
        async with serve(here.relay) as client:
            yield Place(nodes, here, job, client)


async def test_a_stream_goes_on_behind_a_position_that_its_node_has_not_reached_yet_without_a_gap(place: Place) -> None:
    place.journal.tail.close()
    await place.nodes.advance(2 * INTERVAL)
    position, behind = place.position, place.journal.head
    place.journal.requests.close()
    reading = asyncio.create_task(place.read(2, "/v1/events", position))
    await place.looks()
    assert place.journal.head == behind
    place.journal.tail.open()
    await place.nodes.advance(2 * INTERVAL)
    received = (await reading)[:2]
    epoch, _, offset = position.partition("-")

    assert [block.id for block in received] == [f"{epoch}-{int(offset) + number}" for number in (1, 2)]
    assert all('"seq":' in block.data for block in received)


async def test_a_new_job_of_another_node_is_found_as_soon_as_it_is_known_there(place: Place) -> None:
    place.journal.tail.close()
    owner = place.nodes.owner(place.job)
    job = await owner.relay.requests.follow("listing", "other")
    assert place.here.relay.registry.find(job.id) is None
    place.journal.requests.close()
    shown = asyncio.create_task(place.client.get(f"/v1/jobs/{job.id}"))
    reading = asyncio.create_task(place.read(1, f"/v1/jobs/{job.id}/events", ""))
    await place.looks()
    place.journal.tail.open()

    assert (await shown).status == 200
    assert [block.event for block in await reading] == ["accepted"]


async def test_a_client_keeps_its_cursor_while_its_node_cannot_read_what_others_publish(place: Place) -> None:
    assert place.nodes.engine is not None
    place.journal.tail.close()
    await place.nodes.advance(2 * INTERVAL)
    position = place.position
    place.nodes.engine.down = True
    (busy,) = await place.read(2, "/v1/events", position)
    unknown = await place.client.get("/v1/jobs/job_unknown")

    assert (busy.event, busy.id) == ("busy", position)
    assert (unknown.status, unknown.headers["Retry-After"]) == (503, "2")
    place.nodes.engine.down = False
    place.journal.tail.open()
    await place.nodes.advance(0.1)
    assert (await place.client.get("/v1/jobs/job_unknown")).status == 404
