"""The leases that a node holds, and what it does next: claim, give up, hand over. No I/O, and no clock of its own."""

from collections.abc import Collection, Mapping
from math import inf
from typing import Final, NamedTuple

from relay.cluster._rhythm import POLL_FOR
from relay.cluster.rendezvous import first_choice
from relay.cluster.sightings import Sightings, layout_of
from relay.journal.shared import Claimed, ClusterView, Fence, Lease

__all__ = ["Leases"]

SECOND_CHOICE: Final = 1 / 3
"""For how long, in leases, a free shard is left to the node that should own it."""

NOT_AGAIN_FOR: Final = 10.0
"""For how long, in leases, a node keeps a shard that it gave away and nobody claimed."""

FEW: Final = 16
"""A node hands over this part of all shards at once, but at least four, and waits until they have an owner."""


class _Held(NamedTuple):
    token: int
    renewed_at: float


class Leases:
    """What the node *node* holds, of *shards* shards with a lease of *lease* seconds. All times are of its own clock.

    `look` comes first in each round; `to_claim`, `to_release` and `to_hand_over` are about what was seen then.

    One more lease, `layout`, says into how many shards the jobs are divided. A node claims nothing before it has seen
    that one, and nothing while it sees another layout: with two of them two nodes would poll one job.
    """

    def __init__(self, node: str, shards: int, lease: float) -> None:
        self.sightings: Sightings = Sightings(node, shards, lease)
        self._node = node
        self._shards = shards
        self._lease = lease
        self._at_once = max(4, shards // FEW)
        self._held: dict[int, _Held] = {}
        self._handing: set[int] = set()
        self._given: dict[int, int] = {}
        self._kept_until: dict[int, float] = {}
        self._let_go: dict[int, _Held] = {}
        self._looked_at = -inf
        self._agreed = False
        self.layout: int = layout_of(shards)

    @property
    def held(self) -> Mapping[int, int]:
        """The shards of this node, each with its token; and the layout, if this node has that."""
        return {shard: held.token for shard, held in self._held.items()}

    @property
    def owned(self) -> frozenset[int]:
        """The shards of this node, without those that it is about to hand over."""
        return frozenset(self._held.keys() - self._handing - {self.layout})

    @property
    def agreed(self) -> bool:
        """Whether the nodes divide the jobs as this one does, when it looked last."""
        return self._agreed

    def fence(self, shard: int, now: float) -> Fence | None:
        """The right to append, and to poll, for *shard*; None two thirds of a lease after the last renewal began."""
        held = self._held.get(shard)
        return Fence(shard, held.token) if held is not None and self._lasts(held, now) else None

    def owner_of(self, shard: int) -> str:
        """The owner of *shard* as it was last seen; "" for none."""
        if shard in self._held:
            return self._node
        lease = self.sightings.lease(shard)
        return lease.owner if lease is not None and lease.owner != self._node else ""

    def fence_of_another(self, shard: int) -> Fence | None:
        """The fence of the lease of *shard* as it was last seen, which this node does not hold; None for no lease."""
        lease = self.sightings.lease(shard)
        return Fence(shard, lease.token) if lease is not None and shard not in self._held else None

    def look(self, view: ClusterView, asked: float, replied: float) -> Collection[int]:
        """Note a *view* that was requested at *asked*; return the shards whose lease is not this node's any more.

        If the engine has lost data, this node may claim at once for which it could poll up to now.
        """
        let_go = {shard: held for shard, held in self._let_go.items() if not self.sightings.is_held(shard)}
        self.sightings.look(view, asked, replied)
        if self.sightings.rewound:
            for shard, held in (let_go | self._held).items():
                if self._lasts(held, replied):
                    self.sightings.keep(shard)
        self._let_go = {shard: held for shard, held in let_go.items() if self._lasts(held, replied)}
        self._looked_at = asked
        if self.sightings.other_layouts:
            self._agreed = False
        elif self.layout in self._held or self.sightings.is_held(self.layout):
            self._agreed = True
        self._given = {shard: token for shard, token in self._given.items() if self._is_free(shard, token)}
        return [shard for shard, held in self._held.items() if not self._is_own(shard, held.token)]

    def renewed(self, renewed: Mapping[int, int], asked: float) -> None:
        """The leases *renewed*, shard and token, were renewed by a request that began at *asked*."""
        for shard, token in renewed.items():
            held = self._held.get(shard)
            if held is not None and held.token == token:
                self._held[shard] = _Held(token, max(asked, held.renewed_at))

    def to_claim(self) -> list[tuple[int, Lease | None]]:
        """The free shards that this node should own, and those that their first choice has left; each as seen."""
        if self.sightings.other_layouts:
            return []
        shards = [shard for shard in range(self._shards) if self._is_to_claim(shard)] if self._agreed else []
        if self.layout not in self._held and self.sightings.overdue(self.layout) >= 0:
            shards.insert(0, self.layout)
        return [(shard, self.sightings.lease(shard)) for shard in shards]

    def to_release(self) -> Mapping[int, int]:
        """Leases in the name of this node that it does not hold, shard and token, and that another one should have.

        They are left by a claim or a release whose outcome it did not learn.
        """
        leases = {shard: self.sightings.lease(shard) for shard in range(self._shards) if shard not in self._held}
        return {
            shard: lease.token
            for shard, lease in leases.items()
            if lease is not None and lease.owner == self._node and self._choice(shard) != self._node
            if self.sightings.overdue(shard) >= 0
        }

    def to_hand_over(self) -> list[int]:
        """Shards of this node that another one should own, which has been alive for a lease: a few at a time."""
        room = self._at_once - len(self._handing) - len(self._given)
        moving = (shard for shard in sorted(self.owned) if self._should_move(shard)) if room > 0 else ()
        return [shard for _, shard in zip(range(room), moving, strict=False)]

    def claimed(self, shard: int, claimed: Claimed, seen: Lease | None, asked: float) -> None:
        """A request that began at *asked* has claimed *shard*, whose lease was as *seen*."""
        if self._given.pop(shard, None) is not None and (seen is None or not seen.owner):
            self._kept_until[shard] = asked + NOT_AGAIN_FOR * self._lease
        self._let_go.pop(shard, None)
        self._held[shard] = _Held(claimed.token, asked)

    def hand_over(self, shard: int) -> None:
        """Begin to hand over *shard*, one of `owned`. It is not claimed again before that has ended."""
        self._handing.add(shard)

    def handed_over(self, shard: int) -> int | None:
        """End a hand-over; return the token of *shard*, which is to be released, or None if it was lost meanwhile."""
        self._handing.discard(shard)
        held = self._held.pop(shard, None)
        if held is None:
            return None
        self._given[shard] = held.token
        return held.token

    def let_go(self, shard: int) -> bool:
        """Hold *shard* no longer; return whether this node did."""
        held = self._held.pop(shard, None)
        if held is not None:
            self._let_go[shard] = held
        return held is not None

    def _lasts(self, held: _Held, now: float) -> bool:
        return now < held.renewed_at + POLL_FOR * self._lease

    def _is_free(self, shard: int, token: int) -> bool:
        """Whether nobody has claimed *shard* since it was given away. A full engine drops a lease that is released."""
        lease = self.sightings.lease(shard)
        return lease is None or (lease.token == token and lease.owner in ("", self._node))

    def _is_own(self, shard: int, token: int) -> bool:
        lease = self.sightings.lease(shard)
        return lease is not None and (lease.owner, lease.token) == (self._node, token)

    def _is_to_claim(self, shard: int) -> bool:
        overdue = self.sightings.overdue(shard)
        if shard in self._held or shard in self._handing or overdue < 0:
            return False
        if self._choice(shard) == self._node or self.sightings.is_own(shard):
            return True
        lease = self.sightings.lease(shard)
        own = lease is not None and lease.owner == self._node
        return not own and overdue >= SECOND_CHOICE * self._lease

    def _choice(self, shard: int) -> str:
        alive = self.sightings.alive
        return first_choice(shard, alive - {self.sightings.giver(shard)} or alive)

    def _should_move(self, shard: int) -> bool:
        first = first_choice(shard, self.sightings.alive)
        kept = self._looked_at < self._kept_until.get(shard, -inf)
        return first != self._node and not kept and self.sightings.steady(first)
