"""What a node may do about leases, by what it has seen and by its own clock: no engine, no loop, times handed in."""

import pytest

from relay.cluster._rhythm import Rhythm
from relay.journal.shared import Fence, Lease
from tests.cluster.lookers import LEASE, ME, OTHER, SHARDS, THIRD, Node, chosen, held_by


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_node_alone_claims_at_once_what_nobody_has(node: Node) -> None:
    node.look(0.0, {})

    assert node.claims() == [*range(SHARDS)]


def test_a_node_claims_at_once_what_it_should_own_and_leaves_the_rest_to_others_for_a_third_of_a_lease(
    node: Node,
) -> None:
    node.look(0.0, {}, OTHER)
    assert node.claims() == chosen(ME, ME, OTHER)

    node.look(3.3, {}, OTHER)
    assert node.claims() == chosen(ME, ME, OTHER)
    node.look(3.4, {}, OTHER)
    assert node.claims() == [*range(SHARDS)]


def test_a_lease_expires_a_whole_lease_after_the_reply_that_brought_its_beat(node: Node) -> None:
    for at in range(0, 10, 2):
        node.look(at, held_by(OTHER), took=0.5)
        assert node.claims() == []

    node.look(10.4, held_by(OTHER), took=0.5)
    assert node.claims() == []
    node.look(10.5, held_by(OTHER))
    assert node.claims() == [*range(SHARDS)]


def test_a_lease_that_is_renewed_does_not_expire(node: Node) -> None:
    for at in range(40):
        node.look(at, held_by(OTHER, beat=at // 9), OTHER)
        assert node.claims() == []


def test_a_new_token_renews_a_lease_as_a_new_beat_does(node: Node) -> None:
    for at in range(10):
        node.look(at, held_by(OTHER))
    node.look(9.5, {shard: Lease(OTHER, shard + 9, 1) for shard in range(SHARDS)})
    node.look(11.0, {shard: Lease(OTHER, shard + 9, 1) for shard in range(SHARDS)})

    assert node.claims() == []


def test_an_expired_lease_is_left_to_its_first_choice_for_another_third(node: Node) -> None:
    for at in range(15):
        node.look(at, held_by(OTHER), THIRD)
        if at == 10:
            assert node.claims() == chosen(ME, ME, THIRD)

    assert node.claims() == [*range(SHARDS)]


def test_a_node_that_was_stopped_itself_compares_afresh(node: Node) -> None:
    for at in (0.0, 4.0, 8.0):
        node.look(at, held_by(OTHER))
    node.look(100.0, held_by(OTHER))
    assert node.claims() == []

    for at in (104.0, 108.0, 109.9):
        node.look(at, held_by(OTHER))
        assert node.claims() == []
    node.look(110.0, held_by(OTHER))
    assert node.claims() == [*range(SHARDS)]


def test_a_node_that_stopped_is_nobodys_first_choice_any_more(node: Node) -> None:
    node.look(0.0, {}, OTHER)
    assert node.leases.sightings.alive == {ME, OTHER}
    for at in (4.0, 8.0, 10.0):
        node.look(at, {})

    assert node.leases.sightings.alive == {ME}


def test_a_dead_node_stays_dead_while_this_one_was_stopped(node: Node) -> None:
    for at in (0.0, 4.0, 8.0, 12.0):
        node.look(at, {}, *([OTHER] if at == 0.0 else []))
    node.look(100.0, {})

    assert node.leases.sightings.alive == {ME}


def test_a_node_that_gave_a_shard_back_is_not_its_first_choice(node: Node) -> None:
    node.look(0.0, held_by(OTHER), OTHER)
    node.look(1.0, {shard: Lease("", shard + 1, 2) for shard in range(SHARDS)}, OTHER)

    assert node.claims() == [*range(SHARDS)]


def test_the_fence_holds_for_two_thirds_of_a_lease_from_the_start_of_the_claim(node: Node) -> None:
    node.claim(100.0, 5, 3)

    assert node.leases.fence(3, 106.6) == Fence(3, 5)
    assert node.leases.fence(3, 106.7) is None
    assert node.leases.fence(2, 100.0) is None


def test_a_renewal_counts_from_its_start_and_for_the_token_that_was_renewed(node: Node) -> None:
    node.claim(0.0, 5, 3, 4)
    node.leases.renewed({3: 5, 4: 99, 7: 1}, asked=5.0)

    assert node.leases.fence(3, 11.6) == Fence(3, 5)
    assert node.leases.fence(3, 11.7) is None
    assert node.leases.fence(4, 6.7) is None
    assert node.leases.fence(7, 5.0) is None


def test_a_renewal_that_is_answered_late_does_not_shorten_a_newer_one(node: Node) -> None:
    node.claim(5.0, 5, 3)
    node.leases.renewed({3: 5}, asked=1.0)

    assert node.leases.fence(3, 11.0) == Fence(3, 5)


@pytest.mark.parametrize("lease", [Lease(OTHER, 9, 1), Lease("", 5, 2), Lease(ME, 6, 1)])
def test_a_lease_that_another_look_shows_in_other_hands_is_lost(lease: Lease, node: Node) -> None:
    leases = node.claim(0.0, 5, 3)
    assert node.look(1.0, leases) == []

    assert node.look(2.0, {3: lease}) == [3]
    assert node.leases.let_go(3)
    assert not node.leases.let_go(3)


def test_a_lease_in_its_own_name_that_it_does_not_hold_is_claimed_again(node: Node) -> None:
    """Left by a claim whose reply was lost."""
    node.look(0.0, {0: Lease(ME, 7, 1)})

    assert node.leases.to_claim()[0] == (0, Lease(ME, 7, 1))
    assert node.leases.to_release() == {}


def test_a_lease_in_its_own_name_that_another_node_should_have_is_given_back(node: Node) -> None:
    others = chosen(OTHER, ME, OTHER)
    node.look(0.0, held_by(ME), OTHER)

    assert node.claims() == chosen(ME, ME, OTHER)
    assert node.leases.to_release() == {shard: shard + 1 for shard in others}


def test_the_owner_of_a_shard_is_the_one_that_was_seen_last(node: Node) -> None:
    node.look(0.0, {0: Lease(OTHER, 1, 1), 1: Lease("", 2, 1), 2: Lease(ME, 3, 1)}, OTHER)
    node.claim(0.0, 5, 3)

    assert [node.leases.owner_of(shard) for shard in range(5)] == [OTHER, "", "", ME, ""]


def test_leases_are_renewed_three_times_a_lease_and_looked_at_ten_times() -> None:
    rhythm = Rhythm(LEASE, 0.0)
    assert (rhythm.renewal_is_due(0.0), rhythm.look_is_due(0.0)) == (True, True)
    rhythm.renewed(0.5)
    rhythm.looks(0.6)

    assert rhythm.due_at == pytest.approx(1.6)
    assert (rhythm.look_is_due(1.5), rhythm.look_is_due(1.6)) == (False, True)
    assert (rhythm.renewal_is_due(3.8), rhythm.renewal_is_due(3.9)) == (False, True)
    assert rhythm.since_renewal(3.5) == 3.0


def test_a_renewal_that_was_not_answered_is_repeated_once_a_look_is_answered() -> None:
    """Or a node that gets no reply would keep its shards for ever, and poll nothing."""
    rhythm = Rhythm(LEASE, 0.0)
    rhythm.renewed(0.0)
    rhythm.looks(3.0)
    rhythm.renewal_failed()
    assert (rhythm.renewal_is_due(9.0), rhythm.due_at) == (False, 4.0)
    assert rhythm.since_renewal(9.0) == 9.0

    rhythm.looks(9.0)
    rhythm.looked()
    assert rhythm.renewal_is_due(9.1)
