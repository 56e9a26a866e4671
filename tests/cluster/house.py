"""Relays that are nodes of one cluster, in one process, each with its own adapter of the same upstreams."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from relay import Job, Pace, Record, Relay
from relay.clock import Clock
from relay.cluster import ClusterOptions
from relay.jobs.observations import Answer, Observation, Result
from relay.journal.shared import SharedJournal
from relay.testing import ManualClock
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode
from tests.relay.scripted import OneStep

__all__ = ["FINISHED", "LEASE", "RUNNING", "Cluster", "House", "World", "cluster"]

LEASE = 10.0
RUNNING = Observation(status="running", raw_status="running")
FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))


class World:
    """Upstreams, `listing` with one answer for an account, `single` and `finding` with one for each task, as they are
    seen from outside: every request of every node, and the tasks that there are.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.requests: list[tuple[float, str, str, tuple[str, ...]]] = []
        """Time, node, upstream, and the tasks of each poll."""
        self.submitted: list[tuple[str, Mapping[str, Any]]] = []
        """The node and the input of each submission."""
        self.cancelled: list[str] = []
        self.said: dict[str, Observation] = {}
        self.on_observe: Exception | None = None
        self.on_cancel: Exception | None = None
        self.on_submit: Exception | None = None
        self.accepting = asyncio.Event()
        """A submission is answered while it is set."""
        self.accepting.set()

    def polls(self, upstream: str) -> list[float]:
        return [at for at, _, polled, _ in self.requests if polled == upstream]


class Adapter(OneStep):
    """The adapter of one node."""

    def __init__(self, world: World, name: str, node: str) -> None:
        super().__init__(lambda _: {})
        self.name = name
        self.polls_each_task = name != "listing"
        self.node = node
        self._world = world

    async def observe(self, tasks: Sequence[str]) -> Answer:
        world = self._world
        world.requests.append((world.clock.monotonic(), self.node, self.name, tuple(tasks)))
        if world.on_observe is not None:
            raise world.on_observe
        return Answer(listed=len(tasks), tasks={task: world.said.get(task, RUNNING) for task in tasks})

    async def submit(self, input: Mapping[str, Any]) -> str:
        self._world.submitted.append((self.node, input))
        number = len(self._world.submitted)
        await self._world.accepting.wait()
        if self._world.on_submit is not None:
            raise self._world.on_submit
        return f"task_{number}"

    async def cancel(self, task: str) -> None:
        if self._world.on_cancel is not None:
            raise self._world.on_cancel
        self._world.cancelled.append(task)


class FindingAdapter(Adapter):
    """The adapter of an upstream whose tasks can be found by the id of our job."""

    def with_reference(self, input: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        return {**input, "reference": reference}

    async def find_submitted(self, reference: str) -> str | None:
        for number, (_, input) in enumerate(self._world.submitted, 1):
            if input["reference"] == reference:
                return f"task_{number}"
        return None


class House:
    """One node: its relay, what its own sink and a stream of all jobs received, and its notices."""

    def __init__(
        self,
        world: World,
        journal: SharedJournal,
        name: str,
        *,
        lease: float = LEASE,
        interval: float = 2.5,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.notices: list[str] = []
        self.sunk: list[Record] = []
        self.streamed: list[Record] = []
        self.journal = journal
        self.name = name
        self.relay = Relay(
            [Adapter(world, "listing", name), Adapter(world, "single", name), FindingAdapter(world, "finding", name)],
            journal=journal,
            cluster=ClusterOptions(lease=lease, shards=8),
            sinks=[self.sunk.append],
            paces={name: Pace(interval=interval, jitter=0.0) for name in ("listing", "single", "finding")},
            clock=clock or world.clock,
            notify=self.notices.append,
            **options,
        )
        self._changed = asyncio.Event()

    @property
    def owned(self) -> frozenset[int]:
        assert self.relay.cluster is not None
        return self.relay.cluster.membership.owned

    def polls(self, job: Job) -> bool:
        """Whether this node polls *job*."""
        known = self.relay.registry.find(job.id)
        return known is not None and self.relay.requests._holdings.polls(known)  # type: ignore[attr-defined]

    async def enter(self) -> None:
        await self.relay.__aenter__()
        self.relay.bus.subscribe(self._stream, after=0)

    async def leave(self) -> None:
        await self.relay.__aexit__(None, None, None)

    async def kill(self) -> None:
        """End as a killed process does: nothing is handed over, and nothing more is appended."""
        assert self.relay.cluster is not None
        tasks = {*self.relay.cluster._tasks, *self.relay._tasks}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in self.relay.requests.under_way:
            task.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once *condition* holds, which is looked at with each record of the cluster."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def events(self, job: str) -> list[str]:
        return [record.event.type for record in self.streamed if record.job == job]

    def job(self, job: Job) -> Job:
        """What this node has of a job of another."""
        return self.relay.job(job.id)

    def _stream(self, record: Record) -> None:
        self.streamed.append(record)
        self._changed.set()


class Cluster:
    """Nodes over one engine, a world, and the clock of all."""

    def __init__(self, journal: Callable[[str], SharedJournal]) -> None:
        self.clock = ManualClock()
        self.world = World(self.clock)
        self.houses: list[House] = []
        self.alive: list[House] = []
        self.engine: MemoryEngine | None = None
        self._journal = journal
        self._stack = AsyncExitStack()

    async def add(self, *, looked: bool = True, **options: Any) -> House:
        """A further node, which has *looked* at the leases once."""
        house = House(self.world, self._journal(f"n{len(self.houses)}"), f"n{len(self.houses)}", **options)
        await house.enter()
        self.houses.append(house)
        self.alive.append(house)
        assert house.relay.cluster is not None
        if looked:
            await house.relay.cluster.membership.looked.wait()
        return house

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def settle(self) -> None:
        """Let leases be shared out evenly, and the jobs be polled by their new owners."""
        await self.clock.advance(3 * LEASE)

    def owner(self, job: Job) -> House:
        """The node that polls *job*."""
        (owner,) = [house for house in self.alive if house.polls(job)]
        return owner

    def others(self, *houses: House) -> list[House]:
        """The nodes that live, without *houses*."""
        return [house for house in self.alive if house not in houses]

    async def kill(self, house: House) -> None:
        """Kill *house*; the others notice that by and by."""
        self.alive.remove(house)
        await house.kill()

    async def leave(self, house: House) -> None:
        """Let *house* leave in order."""
        self.alive.remove(house)
        self.houses.remove(house)
        await house.leave()

    def stories(self) -> list[list[bytes]]:
        """The records of all jobs as the stream of each living node has sent them."""
        return [[record.json for record in house.streamed] for house in self.alive]

    async def same_everywhere(self) -> list[bytes]:
        """The records that every living node has streamed, once all have as many."""
        await self.clock.advance(0.1)
        first, *others = self.stories()
        assert all(other == first for other in others)
        return first


@asynccontextmanager
async def cluster(
    nodes: int, journal: Callable[[str], SharedJournal] | None = None, **options: Any
) -> AsyncIterator[Cluster]:
    """*nodes* nodes that share the shards evenly; all that live are left at the end."""
    engine = MemoryEngine()
    made = Cluster(journal or (lambda name: MemoryNode(engine, name)))
    made.engine = engine
    try:
        for _ in range(nodes):
            await made.add(**options)
        await made.settle()
        yield made
    finally:
        for house in made.houses:
            await house.leave()
