"""The loop of a membership under faults that a seed draws: links, processes and the engine fail, nodes come and go."""

import asyncio
import os
from random import Random

import pytest

from tests.cluster.members import ALL, LEASE, Cluster, Member, advance
from tests.cluster.memory_engine import Known

SEEDS = range(int(os.environ.get("PLAY_SEEDS", "12")))
ACTS = 40


class Play:
    """One play: what happens is drawn by *random*, and what must hold is checked after each act."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.cluster = cluster
        self.random = random
        self.names = (f"node-{number}" for number in range(ACTS))
        self.alive: dict[str, Member] = {}
        self.stopped: set[str] = set()
        self.leaving: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for _ in range(3):
            await self.a_node_starts()

    async def a_node_starts(self) -> None:
        if len(self.alive) < 4 and not self.cluster.engine.down and self.cluster.engine.refusing is None:
            name = next(self.names)
            self.alive[name] = await self.cluster(name)

    async def a_node_is_killed(self) -> None:
        if (name := self.drawn()) is not None:
            await self.alive.pop(name).stop()
            self.stopped.discard(name)

    async def a_node_leaves(self) -> None:
        if (name := self.drawn()) is not None and name not in self.stopped:
            self.leaving.append(self.alive.pop(name).begin_to_leave())

    async def a_process_is_stopped_or_goes_on(self) -> None:
        if (name := self.drawn()) is not None:
            self.stopped ^= {name}

    async def a_link_is_closed_or_opened(self) -> None:
        if (name := self.drawn()) is not None:
            store = self.cluster.stores[name]
            gate = self.random.choice([store.requests, store.replies])
            self.random.choice([gate.close, gate.open])()

    async def replies_are_lost(self) -> None:
        if (name := self.drawn()) is not None:
            self.cluster.stores[name].lost_replies = self.random.randint(1, 5)

    async def an_append_is_refused(self) -> None:
        if (name := self.drawn()) is not None:
            self.alive[name].membership.lost(self.random.choice(sorted(ALL)))

    async def the_engine_is_away_or_comes_back(self) -> None:
        self.cluster.engine.down = not self.cluster.engine.down

    async def the_engine_is_full_or_has_room(self) -> None:
        self.cluster.engine.refusing = None if self.cluster.engine.refusing else "no memory"

    async def the_engine_is_emptied(self) -> None:
        self.cluster.engine.flush()
        self.open()

    async def a_hand_over_takes_its_time(self) -> None:
        for member in self.cluster.members:
            self.random.choice([member.settled.clear, member.settled.set])()

    async def act(self) -> None:
        acts = [
            self.a_node_starts,
            self.a_node_is_killed,
            self.a_node_leaves,
            self.a_process_is_stopped_or_goes_on,
            self.a_link_is_closed_or_opened,
            self.replies_are_lost,
            self.an_append_is_refused,
            self.the_engine_is_away_or_comes_back,
            self.the_engine_is_full_or_has_room,
            self.the_engine_is_emptied,
            self.a_hand_over_takes_its_time,
        ]
        await self.random.choice(acts)()
        await self.time_passes(self.random.uniform(0.1, 0.6) * LEASE)

    async def time_passes(self, seconds: float) -> None:
        standing = {self.alive[name] for name in self.stopped}
        await advance(seconds, *[member for member in self.cluster.members if member not in standing])

    async def all_is_right_again(self) -> None:
        self.stopped.clear()
        self.cluster.engine.down = False
        self.cluster.engine.refusing = None
        self.open()
        for member in self.cluster.members:
            member.settled.set()
        for store in self.cluster.stores.values():
            store.lost_replies = 0
            store.requests.open()
            store.replies.open()
        if not self.alive:
            await self.a_node_starts()
        await self.time_passes(2.5 * LEASE)

    def open(self) -> None:
        token = max([0, *(token for _, token, *_ in self.cluster.engine.claims)])
        self.cluster.engine.open(Known("another", token=token) if token else Known())

    def drawn(self) -> str | None:
        return self.random.choice(sorted(self.alive)) if self.alive else None

    def check(self) -> None:
        leases = self.cluster.engine.view().leases
        for shard in ALL:
            holders = [
                member.membership.node
                for member in self.cluster.members
                if (token := member.membership._leases.held.get(shard)) is not None
                and shard in leases
                and (leases[shard].owner, leases[shard].token) == (member.membership.node, token)
            ]
            assert len(holders) <= 1
        for member in self.cluster.members:
            owned = set[int]()
            for call, shard in member.calls:
                assert call != "owned" or shard not in owned
                assert call != "lost" or shard in owned
                owned = owned | {shard} if call == "owned" else owned - {shard} if call == "lost" else owned
            assert owned == {shard for shard in member.membership._leases.held if shard >= 0}
        newest: dict[int, int] = {}
        for shard, token, *_ in self.cluster.engine.claims:
            assert token > newest.get(shard, 0)
            newest[shard] = token


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_each_shard_has_one_owner_at_most_and_one_when_all_is_right_again(
    seed: int, cluster: Cluster
) -> None:
    play = Play(cluster, Random(seed))
    await play.begin()
    for _ in range(ACTS):
        await play.act()
        play.check()

    await play.all_is_right_again()
    play.check()
    await asyncio.gather(*play.leaving)
    members = list(play.alive.values())
    assert sorted(shard for member in members for shard in member.fences) == sorted(ALL)
    assert [member.membership.problem for member in members] == [None] * len(members)
    for store in cluster.stores.values():
        await store.close()
