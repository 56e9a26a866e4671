"""Nodes keep to their leases while replies are lost, the engine is away, full or emptied, and nodes are cut off."""

import asyncio

import pytest

from relay.errors import JournalError
from relay.journal.shared import Claimed, ClusterView, Fence, Lease
from tests.cluster.members import ALL, LEASE, Cluster, advance, share
from tests.cluster.memory_engine import Known
from tests.cluster.memory_node import MemoryNode


class LosesTheFirstClaim(MemoryNode):
    """The engine carries out the first claim, and its reply is lost."""

    lost = False

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        claimed = await super().claim(shard, seen)
        if not self.lost and shard >= 0:
            self.lost = True
            raise JournalError("the connection was lost before the reply")
        return claimed


async def test_a_claim_whose_reply_is_lost_is_claimed_again_with_a_new_token(cluster: Cluster) -> None:
    a = await cluster("a", shards=1, store_type=LosesTheFirstClaim)
    await advance(0.5, a)
    assert (a.owned, a.fences, a.membership.counts.unanswered) == (set(), {}, 1)

    await advance(1.0, a)

    assert a.calls == [("owned", 0)]
    assert a.fences == {0: Fence(0, 3)}
    assert cluster.claims == [(0, 2), (0, 3)]


async def test_a_renewal_whose_reply_is_lost_does_not_prolong_polling(cluster: Cluster) -> None:
    a = await cluster("a")
    await advance(3.0, a)
    assert a.membership.since_renewal == pytest.approx(3.0)
    store = cluster.stores["a"]
    store.lost_replies = 1000

    await advance(3.5, a)
    assert set(a.fences) == ALL
    await advance(0.3, a)
    assert a.fences == {}
    assert a.owned == ALL
    assert "not renewed for 6.8 s" in str(a.membership.problem)

    store.lost_replies = 0
    await advance(LEASE, a, until=lambda: set(a.fences) == ALL)
    assert a.membership.problem is None
    assert a.membership.counts.losses == 0


async def test_a_node_that_gets_no_reply_keeps_its_shards_from_nobody(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    cluster.stores["a"].lost_replies = 1000

    passed = await advance(2 * LEASE, a, b, until=lambda: b.owned == ALL)

    assert passed > LEASE
    assert a.fences == {}


async def test_requests_that_are_held_for_long_and_come_late_harm_nobody(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    store = cluster.stores["a"]
    store.requests.close()
    await advance(2 * LEASE, a, b, until=lambda: b.owned == ALL)
    assert a.fences == {}

    store.requests.open()
    await advance(2 * LEASE, a, b)

    assert a.owned | b.owned == ALL
    assert not a.fences.keys() & b.fences.keys()
    newest: dict[int, int] = {}
    for shard, token in cluster.claims:
        assert token > newest.get(shard, 0)
        newest[shard] = token


async def test_while_the_engine_is_away_nobody_polls_and_afterwards_all_go_on_as_they_were(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    before = a.fences | b.fences
    cluster.engine.down = True
    await advance(0.7 * LEASE, a, b)
    assert (a.fences, b.fences) == ({}, {})
    await advance(3 * LEASE, a, b)
    cluster.engine.down = False

    passed = await advance(LEASE, a, b, until=lambda: (a.fences | b.fences).keys() == ALL)

    assert passed <= 0.2 * LEASE
    assert a.fences | b.fences == before
    assert (a.membership.counts.losses, b.membership.counts.losses) == (0, 0)
    await advance(2 * LEASE, a, b)
    assert a.fences | b.fences == before


async def test_after_a_flush_each_node_claims_its_own_shards_again_at_once(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    mine = a.owned
    cluster.engine.flush()
    cluster.engine.open(Known("another", token=8))

    await advance(0.11 * LEASE, a, b)

    assert (a.owned, b.owned) == (mine, ALL - mine)
    assert set(a.fences) | set(b.fences) == ALL
    assert a.calls[-2 * len(mine) :] == [
        *(("lost", shard) for shard in sorted(mine)),
        *(("owned", shard) for shard in sorted(mine)),
    ]


async def test_a_full_engine_takes_no_lease_away_and_gives_none(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    before = a.fences
    cluster.engine.refusing = "no memory"
    await advance(2 * LEASE, a, b)
    assert a.fences == before
    await b.stop()

    await advance(2 * LEASE, a)
    assert (a.fences, a.membership.problem) == (before, None)
    cluster.engine.refusing = None
    await advance(0.2 * LEASE, a, until=lambda: a.owned == ALL)


async def test_a_refused_append_lets_a_node_go_of_the_shard_and_look_at_once(cluster: Cluster) -> None:
    a = await cluster("a")
    await advance(0.5, a)
    a.membership.lost(3)
    a.membership.lost(3)

    assert a.calls[-1] == ("lost", 3)
    assert (3 in a.owned, a.membership.counts.fences, a.membership.counts.losses) == (False, 1, 1)
    await a.clock.advance(0.0)
    assert a.calls[-1] == ("owned", 3)
    assert a.owned == ALL


async def test_a_node_that_stood_still_past_its_lease_lets_go_when_it_goes_on(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    mine = a.owned
    await advance(2 * LEASE, b, until=lambda: b.owned == ALL)

    # Its own clock stood still, so it does not know; the engine does.
    assert set(a.fences) == mine
    await advance(0.4 * LEASE, a)
    assert a.fences == {}
    assert a.notices[-1] == f"node a lost the leases of {len(mine)} shards: another node has them, or nobody"
    assert a.membership.counts.losses == len(mine)


async def test_a_dead_node_leaves_no_shard_behind_when_two_others_are_left(cluster: Cluster) -> None:
    members = [await cluster(name) for name in "abc"]
    await advance(3 * LEASE, *members)
    await members[0].stop()

    await advance(1.2 * LEASE, *members[1:])

    assert members[1].owned == share("b", "b", "c")
    assert members[2].owned == share("c", "b", "c")


async def test_a_release_whose_reply_is_lost_is_repeated(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    store = cluster.stores["a"]
    a.settled.clear()
    leaving = a.begin_to_leave()
    await a.clock.advance(0.05)
    cluster.engine.down = True
    a.settled.set()
    await a.clock.advance(0.05)
    cluster.engine.down = False
    store.lost_replies = 1

    await advance(LEASE, a, b, until=leaving.done)

    assert {lease.owner for lease in cluster.engine.view().leases.values()} <= {"", "b"}


class Breaks(MemoryNode):
    """Looking at the leases fails once in a way that nobody has foreseen, if a test wants that."""

    broken = False

    async def view(self) -> ClusterView:
        if self.broken:
            self.broken = False
            raise RuntimeError("a mistake")
        return await super().view()


async def test_a_hand_over_that_ends_as_if_it_was_cancelled_is_a_notice_and_the_shard_is_released(
    cluster: Cluster,
) -> None:
    a = await cluster("a", shards=1, fails=asyncio.CancelledError())
    await advance(0.5, a)

    await a.membership.leave()

    assert a.notices[1] == "shard 0 was handed over before it had settled: CancelledError"
    assert cluster.engine.view().leases[0].owner == ""


async def test_a_hand_over_goes_on_if_the_task_breaks_off_and_is_started_again(cluster: Cluster) -> None:
    a = await cluster("a", store_type=Breaks)
    await advance(0.5, a)
    b = await cluster("b")
    a.settled.clear()
    await advance(2 * LEASE, a, b, until=lambda: a.owned != ALL)
    store = cluster.stores["a"]
    assert isinstance(store, Breaks)
    store.broken = True
    await advance(1.0, a, b)
    with pytest.raises(RuntimeError):
        await a.ended()

    a.settled.set()
    a.start()
    await advance(2 * LEASE, a, b, until=lambda: b.owned == share("b", "a", "b"))

    assert a.owned == share("a", "a", "b")


async def test_ending_the_task_leaves_nothing_under_way(cluster: Cluster) -> None:
    a = await cluster("a")
    store = cluster.stores["a"]
    store.requests.close()
    await asyncio.sleep(0)
    a.settled.clear()
    await a.stop()
    await store.close()

    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
