"""What a node sees of the leases and of the other nodes, and for how long: times are those of its own clock alone."""

from collections.abc import Set
from dataclasses import dataclass
from math import inf
from typing import Final

from relay.journal.shared import ClusterView, Lease

__all__ = ["AFRESH", "Sightings", "layout_of"]

AFRESH: Final = 1 / 2
"""A node that has not looked for this part of a lease compares afresh: it was stopped, or the engine was."""


def layout_of(shards: int) -> int:
    """The number, in place of a shard, of the lease that says: this cluster has that many *shards*."""
    return -shards


UNKNOWN: Final = "?"
"""In place of an owner: there may be one."""


@dataclass(slots=True)
class _Shard:
    lease: Lease | None
    since: float
    owner: str = ""
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
        self._shards = {shard: _Shard(None, inf) for shard in (layout_of(shards), *range(shards))}
        self._own_layout = layout_of(shards)
        self._nodes: dict[str, _Node] = {}
        self.alive: Set[str] = frozenset({node})
        """This node, and those whose beat changed, or was first seen, within the lease before the last look."""
        self.rewound: bool = False
        """Whether the engine turned out to have lost data with the last look."""
        self._asked = self._replied = -inf

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

    def is_own(self, shard: int) -> bool:
        """Whether `keep` was called for *shard*, and nobody has claimed it since."""
        seen = self._shards[shard]
        return seen.owner == self._node and (seen.lease is None or seen.lease.owner != self._node)

    def keep(self, shard: int) -> None:
        """This node may still poll *shard*, though the engine has lost its lease: claim it at once, if nobody has."""
        seen = self._shards[shard]
        if seen.owner == UNKNOWN:
            seen.owner, seen.since = self._node, self._asked

    def overdue(self, shard: int) -> float:
        """For how many seconds *shard* could have been claimed; below 0 for one that is not free yet."""
        seen = self._shards[shard]
        return self._asked - seen.since - (0.0 if seen.owner in ("", self._node) else self._lease)

    def is_held(self, shard: int) -> bool:
        """Whether another node has the lease of *shard*, and it has not expired."""
        lease = self._shards[shard].lease
        return lease is not None and lease.owner not in ("", self._node) and self.overdue(shard) < 0

    @property
    def other_layouts(self) -> list[int]:
        """Into how many shards other nodes divide the jobs, where this differs from what this one does.

        A layout whose owner is out of the view is left from long ago.
        """
        others = [shard for shard in self._shards if shard < 0 and shard != self._own_layout and self.is_held(shard)]
        return [-shard for shard in others if self._shards[shard].owner in self._nodes]

    def silence(self, shard: int, now: float) -> float:
        """For how many seconds the lease of *shard* has been as it is."""
        return now - self._shards[shard].since

    def look(self, view: ClusterView, asked: float, replied: float) -> None:
        """Note a *view* that was requested at *asked*, and was here at *replied*."""
        afresh = replied - self._replied > AFRESH * self._lease
        self.rewound = self._is_older(view)
        self._look_at_nodes(view, replied, afresh)
        self._look_at_layouts(view)
        for shard, seen in list(self._shards.items()):
            lease = view.leases.get(shard)
            if lease != seen.lease or seen.since == inf or self.rewound:
                seen = self._shards[shard] = self._changed(seen, lease)
            elif not afresh:
                continue
            # A free shard may be claimed at once. Any other lease has been as it is since the reply, at the latest.
            seen.since = asked if seen.owner in ("", self._node) else replied
        self._asked, self._replied = asked, replied
        alive = {name for name, seen in self._nodes.items() if asked - seen.changed < self._lease}
        self.alive = frozenset(alive | {self._node})

    def _is_older(self, view: ClusterView) -> bool:
        """Whether the engine has lost data, or gone back to older data, since the last look.

        This node shows itself before it looks, so its name is missing only if it was lost.
        """
        seen = {shard: seen.lease for shard, seen in self._shards.items() if seen.lease is not None}
        tokens = {shard: lease.token for shard, lease in view.leases.items()}
        return self._replied > -inf and (
            self._node not in view.nodes or any(tokens.get(shard, -1) < lease.token for shard, lease in seen.items())
        )

    def _changed(self, seen: _Shard, lease: Lease | None) -> _Shard:
        """*lease* in place of the one that was *seen*."""
        owner = lease.owner if lease is not None else ""
        if self.rewound:
            # A node that this one does not know of may have the shard in the data that is lost, and polls until it
            # looks: as if it had just renewed its lease.
            return _Shard(lease, inf, owner if owner not in ("", self._node) else UNKNOWN)
        released = seen.lease is not None and lease is not None and not owner
        return _Shard(lease, inf, owner, seen.owner if released else "")

    def _look_at_layouts(self, view: ClusterView) -> None:
        for shard in [shard for shard in self._shards if shard < 0 and shard not in view.leases]:
            if shard != self._own_layout:
                del self._shards[shard]
        for shard in view.leases:
            if shard < 0:
                self._shards.setdefault(shard, _Shard(None, inf))

    def _look_at_nodes(self, view: ClusterView, replied: float, afresh: bool) -> None:
        self._nodes = {name: seen for name, seen in self._nodes.items() if name in view.nodes}
        for name, beat in view.nodes.items():
            seen = self._nodes.get(name)
            if name == self._node:
                continue
            if seen is None:
                self._nodes[name] = _Node(beat, replied, replied)
            elif beat != seen.beat:
                # One that was silent for longer than a lease begins anew.
                since = seen.since if name in self.alive and not afresh else replied
                self._nodes[name] = _Node(beat, replied, since)
            elif afresh and name in self.alive:
                seen.changed = seen.since = replied
