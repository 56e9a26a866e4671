"""What a node sees of the leases and of the other nodes, and for how long: times are those of its own clock alone."""

from collections.abc import Set
from dataclasses import dataclass
from math import inf
from typing import Final

from relay.journal.shared import ClusterView, Lease

__all__ = ["AFRESH", "Sightings"]

AFRESH: Final = 1 / 2
"""A node that has not looked for this part of a lease compares afresh: it was stopped, or the engine was."""


@dataclass(slots=True)
class _Shard:
    lease: Lease | None
    since: float
    giver: str = ""


@dataclass(slots=True)
class _Node:
    beat: int
    changed: float
    since: float


class Sightings:
    """Remembers since when each lease and each beat has been as it is. It does no I/O, and times are handed in.

    A lease has expired if its beat was the same for a whole *lease*, in seconds of this node: from the reply that
    brought it first to the request that brought it last. No node needs to know the time of another one for that.
    """

    def __init__(self, node: str, shards: int, lease: float) -> None:
        self._node = node
        self._lease = lease
        self._shards = [_Shard(None, inf) for _ in range(shards)]
        self._nodes: dict[str, _Node] = {}
        self.alive: Set[str] = frozenset({node})
        """This node, and those whose beat changed, or was first seen, within the lease before the last look."""
        self._asked = self._replied = -inf
        self._keep_until = -inf

    def steady(self, name: str) -> bool:
        """Whether the node *name* has been alive for a whole lease."""
        seen = self._nodes.get(name)
        return seen is not None and name in self.alive and self._asked - seen.since >= self._lease

    def lease(self, shard: int) -> Lease | None:
        """The lease of *shard* as it was last seen."""
        return self._shards[shard].lease

    def giver(self, shard: int) -> str:
        """The node that gave the lease of *shard* back, so that it will not claim it; "" if none is known."""
        return self._shards[shard].giver

    def overdue(self, shard: int) -> float:
        """For how many seconds *shard* could have been claimed; below 0 for one that is not free yet."""
        seen = self._shards[shard]
        return self._asked - seen.since - (self._lease if self._is_held(seen.lease) else 0.0)

    def silence(self, shard: int, now: float) -> float:
        """For how many seconds the lease of *shard* has been as it is."""
        return now - self._shards[shard].since

    def look(self, view: ClusterView, asked: float, replied: float) -> None:
        """Note a *view* that was requested at *asked*, and was here at *replied*."""
        afresh = replied - self._replied > AFRESH * self._lease
        self._look_at_nodes(view, replied, afresh)
        for shard, seen in enumerate(self._shards):
            lease = view.leases.get(shard)
            if lease != seen.lease or seen.since == inf:
                given = seen.lease is not None and lease is not None and not lease.owner
                giver = seen.lease.owner if given and seen.lease is not None else ""
                # A free shard may be claimed at once. Any other lease has been as it is since the reply, at the latest.
                since = replied if self._is_held(lease) else asked
                self._shards[shard] = _Shard(lease, since, giver)
            elif afresh:
                seen.since = replied if self._is_held(lease) else asked
        self._asked, self._replied = asked, replied
        alive = {name for name, seen in self._nodes.items() if asked - seen.changed < self._lease}
        self.alive = frozenset(alive | {self._node})

    def _look_at_nodes(self, view: ClusterView, replied: float, afresh: bool) -> None:
        if self._node not in view.nodes:
            # The engine has lost its data. The other nodes are about to show themselves again, as this one is.
            self._keep_until = replied + AFRESH * self._lease
        if replied >= self._keep_until:
            self._nodes = {name: seen for name, seen in self._nodes.items() if name in view.nodes}
        for name, beat in view.nodes.items():
            seen = self._nodes.get(name)
            if name == self._node:
                continue
            if seen is None:
                self._nodes[name] = _Node(beat, replied, replied)
            elif beat != seen.beat:
                # One that was silent for longer than a lease begins anew.
                self._nodes[name] = _Node(beat, replied, seen.since if name in self.alive and not afresh else replied)
            elif afresh and name in self.alive:
                seen.changed = seen.since = replied

    def _is_held(self, lease: Lease | None) -> bool:
        """Whether another node owns it, or owned it when it stopped. A lease in this node's own name is none of its."""
        return lease is not None and lease.owner not in ("", self._node)
