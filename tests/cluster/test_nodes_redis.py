"""The same nodes on real servers and the real clock: a lease is a second, and a test waits for records alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay import Job
from relay.clock import SystemClock
from relay.journal.redis import RedisJournal
from relay.polling.submission import INTERRUPTED
from tests.cluster.house import FINISHED, House, World
from tests.journal.redis.servers import EngineServer

UPSTREAMS = pytest.mark.parametrize("upstream", ["listing", "single"])
LEASE = 1.0
INTERVAL = 0.25


class Nodes:
    """Nodes on one server."""

    def __init__(self, server: EngineServer) -> None:
        self.world = World(SystemClock())
        self.server = server
        self.houses: list[House] = []
        self.alive: list[House] = []

    async def add(self) -> House:
        name = f"n{len(self.houses)}"
        journal = RedisJournal(self.server.url, node=name)
        house = House(self.world, journal, name, lease=LEASE, interval=INTERVAL)
        await house.enter()
        self.houses.append(house)
        self.alive.append(house)
        return house

    async def kill(self, house: House) -> None:
        self.alive.remove(house)
        await house.kill()

    async def owner(self, job: Job) -> House:
        """The node that polls *job*, once it is another record on."""
        house = self.alive[0]
        seq = house.job(job).state.seq
        await house.until(lambda: house.job(job).state.seq > seq)
        while not (owners := [one for one in self.alive if one.polls(job)]):  # noqa: ASYNC110 - leases are moving
            await asyncio.sleep(0.05)
        return owners[0]

    async def ended(self, *jobs: Job) -> None:
        """Every living node has streamed the ends of *jobs*."""
        for house in self.alive:
            await house.until(lambda house=house: all(house.job(job).ended for job in jobs))  # type: ignore[misc]

    def stories(self) -> list[list[bytes]]:
        return [[record.json for record in house.streamed] for house in self.alive]


@pytest.fixture
async def nodes(engine: EngineServer) -> AsyncIterator[Nodes]:
    made = Nodes(engine)
    yield made
    for house in made.houses:
        await house.leave()


def is_whole(house: House, job: Job) -> bool:
    numbers = [record.seq for record in house.streamed if record.job == job.id]
    return numbers == list(range(1, len(numbers) + 1))


@UPSTREAMS
async def test_any_node_serves_any_request_and_all_stream_the_same_bytes(nodes: Nodes, upstream: str) -> None:
    first, second, third = [await nodes.add() for _ in range(3)]
    job = await first.relay.requests.follow(upstream, "t", "ann")
    jobs = await asyncio.gather(
        *(house.relay.requests.submit(upstream, {"prompt": "a cat"}, key="k") for house in nodes.houses for _ in "ab")
    )
    again = await second.relay.requests.follow(upstream, "t", "ann")
    await third.until(lambda: third.job(jobs[0]).state.task)
    cancelled = await third.relay.requests.cancel(job.id)
    nodes.world.said["task_1"] = FINISHED
    await nodes.ended(job, jobs[0])

    assert ({one.id for one in jobs}, again.id, cancelled.id) == ({jobs[0].id}, job.id, job.id)
    assert len(nodes.world.submitted) == 1
    one, *others = nodes.stories()
    assert all(other == one for other in others)
    assert sorted(record.json for house in nodes.houses for record in house.sunk) == sorted(one)


@UPSTREAMS
async def test_the_jobs_of_a_killed_node_go_on_at_others(nodes: Nodes, upstream: str) -> None:
    for _ in range(3):
        await nodes.add()
    jobs = [await house.relay.requests.follow(upstream, f"t{number}") for number, house in enumerate(nodes.houses)]
    owner = await nodes.owner(jobs[0])
    await nodes.kill(owner)
    heir = await nodes.owner(jobs[0])
    nodes.world.said |= {f"t{number}": FINISHED for number in range(3)}
    await nodes.ended(*jobs)

    assert heir is not owner
    assert all(is_whole(house, job) for house in nodes.alive for job in jobs)
    one, other = nodes.stories()
    assert one == other


async def test_a_node_that_leaves_gives_its_jobs_to_one_that_joins(nodes: Nodes) -> None:
    first = await nodes.add()
    job = await first.relay.requests.follow("listing", "t")
    second = await nodes.add()
    nodes.alive.remove(first)
    nodes.houses.remove(first)
    await first.leave()
    assert await nodes.owner(job) is second
    nodes.world.said["t"] = FINISHED
    await nodes.ended(job)

    assert is_whole(second, job)
    assert [record.json for record in first.streamed] == nodes.stories()[0][: len(first.streamed)]


async def test_a_submission_whose_node_was_killed_is_lost_and_not_made_again(nodes: Nodes) -> None:
    first, second = await nodes.add(), await nodes.add()
    nodes.world.accepting.clear()
    job = await first.relay.requests.submit("single", {"prompt": "a cat"}, key="k")
    await second.until(lambda: second.relay.submitted("k"))
    owner = first if first.polls(job) else second
    await nodes.kill(owner)
    await nodes.ended(job)
    (left,) = nodes.alive
    again = await left.relay.requests.submit("single", {"prompt": "a cat"}, key="k")

    assert (again.id, again.state.text) == (job.id, f"failed (lost): {INTERRUPTED}")
    assert len(nodes.world.submitted) == 1


async def test_a_flushed_server_is_a_new_epoch_in_which_jobs_go_on(nodes: Nodes, engine: EngineServer) -> None:
    first, second = await nodes.add(), await nodes.add()
    jobs = [await first.relay.requests.follow(upstream, "t") for upstream in ("listing", "single")]
    for job in jobs:
        await nodes.owner(job)
    epoch = first.journal.epoch
    await engine.call("FLUSHALL")
    for job in jobs:
        await second.until(lambda job=job: second.streamed[-1].position.epoch != epoch and job)  # type: ignore[misc]
    nodes.world.said["t"] = FINISHED
    await nodes.ended(*jobs)

    for house in nodes.houses:
        for job in jobs:
            seqs = [record.seq for record in house.streamed if record.job == job.id]
            assert seqs == sorted(set(seqs))
