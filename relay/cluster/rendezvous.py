"""Which node should own a shard: rendezvous hashing (Thaler and Ravishankar, 1998).

Every node that knows the same nodes comes to the same choice without a message. If a node comes or goes, the shards
that it has or had are the only ones to move.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

__all__ = ["first_choice"]


def first_choice(shard: int, nodes: Iterable[str]) -> str:
    """The one of *nodes* that should own *shard*, whatever their order; "" if there is none."""
    return max(nodes, key=lambda node: (_weight(node, shard), node), default="")


@lru_cache(maxsize=2**15)
def _weight(node: str, shard: int) -> bytes:
    return blake2b(f"{node}\0{shard}".encode(), digest_size=8).digest()
