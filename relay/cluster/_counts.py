"""What a node counts about its leases, for metrics and tests."""

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["ClusterCounts"]


class ClusterCounts(Struct):
    """Counters since the node began.

    *claims*: shards that it claimed; *takeovers*: those of them whose owner had stopped. *losses*: shards that it lost
    without a hand-over; *fences*: those of them of which a refused append was the first sign. *hand_overs*: shards that
    it handed over. *unanswered*: requests about leases whose outcome is unknown. *longest_takeover*: the longest time,
    in seconds, from the last renewal of a stopped owner, as this node saw it, to the claim.
    """

    claims: int = 0
    takeovers: int = 0
    losses: int = 0
    fences: int = 0
    hand_overs: int = 0
    unanswered: int = 0
    longest_takeover: float = 0.0

    def took_over(self, silences: Sequence[float]) -> None:
        """Count takeovers, each *silences* seconds after the last renewal."""
        self.takeovers += len(silences)
        self.longest_takeover = max(self.longest_takeover, *silences)
