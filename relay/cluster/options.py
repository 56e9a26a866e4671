"""What all nodes of a cluster have in common, beside their journal."""

from typing import Final

from msgspec import Struct

from relay.errors import UsageError

__all__ = ["ClusterOptions"]

SHORTEST_LEASE: Final = 0.1
LONGEST_LEASE: Final = 300.0
MOST_SHARDS: Final = 1024


class ClusterOptions(Struct, frozen=True, kw_only=True):
    """How the jobs of a cluster are shared out; the same on every node. Raises UsageError for what cannot be.

    *lease*, in seconds, is how long a node that stopped keeps its shards; another one polls their jobs less than twice
    that later, most often 1.1 times. An engine that takes longer than a quarter of it to answer is too slow for it.
    *shards* is into how many parts the jobs are divided. A node without one polls nothing, so there are several for
    each node. A node that is set to another number than the cluster has claims none.
    """

    lease: float = 10.0
    shards: int = 64

    def __post_init__(self) -> None:
        if not SHORTEST_LEASE <= self.lease <= LONGEST_LEASE:
            raise UsageError(f"a lease is {SHORTEST_LEASE:g} to {LONGEST_LEASE:g} seconds, not {self.lease:g}")
        if not 1 <= self.shards <= MOST_SHARDS:
            raise UsageError(f"a cluster has 1 to {MOST_SHARDS} shards, not {self.shards}")
