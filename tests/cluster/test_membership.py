"""Nodes of a cluster share out its shards, take over those of a node that stops, and hand over when one joins."""

import asyncio
from typing import Any

from relay.journal.shared import Claimed, Lease
from tests.cluster.members import ALL, LEASE, Cluster, advance, share
from tests.cluster.memory_node import MemoryNode


class ClaimsSlowly(MemoryNode):
    """The reply to the claim of a shard waits for the test."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.claiming = asyncio.Event()
        self.go_on = asyncio.Event()

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        claimed = await super().claim(shard, seen)
        if shard >= 0:
            self.claiming.set()
            await self.go_on.wait()
        return claimed


async def test_a_node_alone_owns_everything_at_once(cluster: Cluster) -> None:
    a = await cluster("a")

    await advance(0.1, a)

    assert (a.owned, set(a.fences)) == (ALL, ALL)
    assert a.calls == [("owned", shard) for shard in range(8)]
    assert (a.membership.counts.claims, a.membership.counts.takeovers) == (8, 0)
    assert a.membership.looked.is_set()
    assert a.membership.nodes == {"a"}


async def test_a_node_that_joins_gets_its_share_once_it_has_been_alive_for_a_lease(cluster: Cluster) -> None:
    a = await cluster("a")
    await advance(1.0, a)
    b = await cluster("b")

    await advance(LEASE - 0.5, a, b)
    assert (a.owned, b.owned) == (ALL, set())

    passed = await advance(LEASE, a, b, until=lambda: b.owned == share("b", "a", "b"))
    assert passed < LEASE
    assert a.owned == share("a", "a", "b")
    assert (a.membership.counts.losses, a.membership.counts.hand_overs) == (0, len(b.owned))
    await advance(1.0, a, b)
    shard = max(b.owned)
    assert [call for call, of in a.calls if of == shard] == ["owned", "handover", "lost"]
    assert (a.membership.owner_of(shard), b.membership.owner_of(shard)) == ("b", "b")


async def test_no_shard_has_two_owners_or_a_long_gap_while_nodes_join(cluster: Cluster) -> None:
    a = await cluster("a")
    await advance(1.0, a)
    members = [a, await cluster("b"), await cluster("c")]
    unowned = dict.fromkeys(ALL, 0)

    for _ in range(round(3 * LEASE / 0.1)):
        await advance(0.1, *members)
        owners = {shard: [member for member in members if shard in member.fences] for shard in ALL}
        assert all(len(fences) <= 1 for fences in owners.values())
        unowned = {shard: 0 if owners[shard] else unowned[shard] + 1 for shard in ALL}
        assert max(unowned.values()) <= 11  # tenths of a second: a look is due each second

    assert [member.owned for member in members] == [share(name, "a", "b", "c") for name in "abc"]


async def test_shards_of_a_node_that_stopped_are_polled_again_within_little_more_than_a_lease(
    cluster: Cluster,
) -> None:
    a = await cluster("a")
    await advance(0.1, a)
    b = await cluster("b")
    await advance(2.5, a, b)  # the next renewal of a is 0.8 s away
    await a.stop()

    passed = await advance(2 * LEASE, b, until=lambda: b.owned == ALL)

    longest = b.membership.counts.longest_takeover
    assert passed <= 1.1 * LEASE
    assert LEASE <= longest <= 1.2 * LEASE
    assert b.membership.counts.takeovers == 8
    assert b.notices == [f"node b took over 8 shards of a, {longest:.1f} s after the last renewal that it saw"]


async def test_a_node_that_leaves_hands_over_at_once(cluster: Cluster) -> None:
    a, b = await cluster.pair()

    await a.membership.leave()
    assert (a.owned, a.fences) == (set(), {})
    passed = await advance(LEASE, b, until=lambda: b.owned == ALL)

    assert passed <= 0.11 * LEASE
    assert b.membership.counts.takeovers == 0
    assert b.membership.nodes == {"b"}
    assert (a.membership.counts.losses, a.membership.problem) == (0, None)
    await a.ended()


async def test_a_node_that_leaves_keeps_a_shard_until_it_has_settled(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    a.settled.clear()
    leaving = a.begin_to_leave()
    await advance(0.9 * LEASE, a, b)

    assert a.owned == set()
    assert set(a.fences) == share("a", "a", "b")
    assert ("lost", min(a.fences)) not in a.calls
    a.settled.set()
    await leaving
    assert a.fences == {}
    await advance(LEASE, a, b, until=lambda: b.owned == ALL)


async def test_a_shard_that_does_not_settle_is_released_after_a_lease(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    a.settled.clear()
    leaving = a.begin_to_leave()

    await advance(1.3 * LEASE, a, b, until=lambda: b.owned == ALL)

    await leaving
    assert a.notices == [
        f"shard {shard} was handed over before it had settled: TimeoutError: not done within 10 s"
        for shard in sorted(share("a", "a", "b"))
    ]


async def test_a_node_that_cannot_reach_the_engine_leaves_all_the_same(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    cluster.engine.down = True
    leaving = a.begin_to_leave()
    await advance(2 * LEASE, a, b, until=leaving.done)

    cluster.engine.down = False
    await advance(1.3 * LEASE, b, until=lambda: b.owned == ALL)
    assert cluster.engine.view().nodes.keys() == {"a", "b"}


async def test_a_claim_that_is_under_way_when_a_node_leaves_is_released_as_well(cluster: Cluster) -> None:
    a = await cluster("a", shards=1, store_type=ClaimsSlowly)
    advancing = asyncio.ensure_future(advance(0.5, a))
    store = cluster.stores["a"]
    assert isinstance(store, ClaimsSlowly)
    await store.claiming.wait()
    leaving = a.begin_to_leave()
    await advancing
    store.go_on.set()
    await leaving

    assert a.owned == set()
    assert {lease.owner for lease in cluster.engine.view().leases.values()} == {""}


async def test_nodes_that_start_together_claim_each_shard_once(cluster: Cluster) -> None:
    members = [await cluster(name) for name in "abc"]

    await advance(1.2, *members)

    assert sorted(shard for shard, _ in cluster.claims) == sorted(ALL)
    assert sorted(shard for member in members for shard in member.owned) == sorted(ALL)


async def test_callbacks_that_fail_are_notices_and_stop_nothing(cluster: Cluster) -> None:
    a = await cluster("a", shards=1, fails=ValueError("no"))
    await advance(0.1, a)
    assert a.owned == {0}

    await a.membership.leave()

    assert a.notices == [
        "taking up shard 0 failed: ValueError: no",
        "shard 0 was handed over before it had settled: ValueError: no",
        "letting go of shard 0 failed: ValueError: no",
    ]
    assert cluster.engine.view().leases[0].owner == ""
