"""Nodes of one process that take part in a cluster, each with a clock of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from relay.cluster import Membership, Shards
from relay.cluster.rendezvous import first_choice
from relay.journal.shared import Claimed, ClusterView, Fence, Lease, LeaseStore
from relay.testing import ManualClock
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode

__all__ = ["ALL", "LEASE", "Cluster", "Member", "Watched", "advance", "share"]

LEASE: Final = 10.0
STEP: Final = LEASE / 100
ALL: Final = set(range(8))

_Answer = TypeVar("_Answer")


class Member:
    """One node: its membership, and all that it was called back with, in order. *fails*: each callback raises it."""

    def __init__(self, store: LeaseStore, name: str, *, shards: int = 8, fails: BaseException | None = None) -> None:
        self.store = store
        self.clock: ManualClock = ManualClock()
        self.notices: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.settled: asyncio.Event = asyncio.Event()
        """A hand-over waits for it."""
        self.settled.set()
        self.membership: Membership = Membership(
            store,
            Shards(shards),
            node=name,
            lease=LEASE,
            clock=self.clock,
            on_owned=self._own,
            on_lost=self._lose,
            on_handover=self._hand_over,
            notify=self.notices.append,
        )
        self._fails = fails
        self._task: asyncio.Task[None] | None = None

    @property
    def owned(self) -> set[int]:
        return set(self.membership.owned)

    @property
    def fences(self) -> dict[int, Fence]:
        """The fences that hold now, by shard."""
        leases = self.membership._leases
        now = self.clock.monotonic()
        return {shard: fence for shard in range(self.membership.shards.count) if (fence := leases.fence(shard, now))}

    def start(self) -> "Member":
        self._task = asyncio.create_task(self.membership.run())
        return self

    async def stop(self) -> None:
        """End as a process does that is killed: nothing is handed over."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def ended(self) -> None:
        """Return when the task has ended by itself."""
        assert self._task is not None
        await self._task

    def begin_to_leave(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.membership.leave())

    def _own(self, shard: int, claimed: Claimed) -> None:
        self._called("owned", shard)

    def _lose(self, shard: int) -> None:
        self._called("lost", shard)

    async def _hand_over(self, shard: int) -> None:
        self._called("handover", shard)
        await self.settled.wait()

    def _called(self, what: str, shard: int) -> None:
        self.calls.append((what, shard))
        if self._fails is not None:
            raise self._fails


class Cluster:
    """Makes nodes on one engine in this process."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.stores: dict[str, MemoryNode] = {}
        self.members: list[Member] = []

    async def __call__(
        self,
        name: str,
        *,
        shards: int = 8,
        fails: BaseException | None = None,
        store_type: type[MemoryNode] = MemoryNode,
    ) -> Member:
        store = self.stores[name] = store_type(self.engine, name)
        await store.open()
        self.members.append(member := Member(store, name, shards=shards, fails=fails).start())
        return member

    @property
    def claims(self) -> list[tuple[int, int]]:
        """Shard and token of each claim of a shard, in order."""
        return [(shard, token) for shard, token, *_ in self.engine.claims if shard >= 0]

    async def pair(self) -> tuple[Member, Member]:
        """Two nodes that have shared out the shards."""
        a, b = await self("a"), await self("b")
        await advance(3 * LEASE, a, b, until=lambda: b.owned == share("b", "a", "b") and a.owned | b.owned == ALL)
        await advance(0.5, a, b)
        return a, b

    async def stop(self) -> None:
        for member in self.members:
            await member.stop()


class Watched:
    """A LeaseStore that says when no call is under way: for an engine in another process, which takes its time."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._calls = 0

    async def at_rest(self) -> None:
        """Return once no call is under way, and none has begun for some turns of the loop."""
        quiet = 0
        while quiet < 20:
            quiet = 0 if self._calls else quiet + 1
            await asyncio.sleep(0)

    async def view(self) -> ClusterView:
        return await self._call(self._store.view())

    async def beat(self, held: Mapping[int, int]) -> frozenset[int]:
        return await self._call(self._store.beat(held))

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        return await self._call(self._store.claim(shard, seen))

    async def release(self, held: Mapping[int, int]) -> None:
        await self._call(self._store.release(held))

    async def leave(self) -> None:
        await self._call(self._store.leave())

    async def _call(self, request: Awaitable[_Answer]) -> _Answer:
        self._calls += 1
        try:
            return await request
        finally:
            self._calls -= 1


def share(name: str, *nodes: str) -> set[int]:
    return {shard for shard in ALL if first_choice(shard, nodes) == name}


async def advance(seconds: float, *members: Member, until: Callable[[], bool] | None = None) -> float:
    """Let *seconds* pass for all *members* alike, or less, as soon as *until* is true; return how many have passed."""
    steps = round(seconds / STEP)
    for step in range(steps):
        if until is not None and until():
            return step * STEP
        for member in members:
            await member.clock.advance(STEP)
            if isinstance(member.store, Watched):
                await member.store.at_rest()
    if until is not None:
        assert until(), f"not within {seconds:g} s"
    return steps * STEP
