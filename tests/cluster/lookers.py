"""A node's view of the leases, which tests hand in with its times."""

from collections.abc import Mapping
from typing import Final

from relay.cluster.leases import Leases
from relay.cluster.rendezvous import first_choice
from relay.journal.shared import Claimed, ClusterView, Lease

__all__ = ["LEASE", "ME", "OTHER", "SHARDS", "THIRD", "Node", "chosen", "held_by"]

LEASE: Final = 10.0
SHARDS: Final = 8
ME, OTHER, THIRD = "me", "other", "third"


class Node:
    """The leases of ME, and what it looks at."""

    def __init__(self, shards: int = SHARDS) -> None:
        self.leases = Leases(ME, shards, LEASE)
        self.beats: dict[str, int] = {}

    def look(self, at: float, leases: Mapping[int, Lease], *nodes: str, took: float = 0.0) -> list[int]:
        """See *leases* at *at*, and a beat of each of *nodes* that it did not have before; return what is lost.

        Some node has the lease of the layout, and keeps it.
        """
        self.beats.update({name: round(at * 100) for name in (ME, *nodes)})
        leases = {self.leases.layout: Lease("keeper", 999, round(at * 100)), **leases}
        return [*self.leases.look(ClusterView(leases, dict(self.beats)), at, at + took)]

    def claims(self) -> list[int]:
        return [shard for shard, _ in self.leases.to_claim() if shard >= 0]

    def claim(self, at: float, token: int, *shards: int) -> dict[int, Lease]:
        """Claim *shards* with tokens from *token* on; return the leases."""
        for number, shard in enumerate(shards, token):
            self.leases.claimed(shard, Claimed(number, 0), None, at)
        return {shard: Lease(ME, number, 1) for number, shard in enumerate(shards, token)}


def chosen(name: str, *nodes: str, shards: int = SHARDS) -> list[int]:
    return [shard for shard in range(shards) if first_choice(shard, nodes) == name]


def held_by(owner: str, beat: int = 1) -> dict[int, Lease]:
    return {shard: Lease(owner, shard + 1, beat) for shard in range(SHARDS)}
