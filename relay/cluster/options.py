"""How a node takes part in a cluster."""

import re
import secrets
import socket
from typing import Final

from msgspec import Struct

from relay.errors import UsageError

__all__ = ["ClusterOptions", "new_node_name"]

SHORTEST_LEASE: Final = 0.1
LONGEST_LEASE: Final = 300.0
MOST_SHARDS: Final = 1024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ClusterOptions(Struct, frozen=True, kw_only=True):
    """What all nodes of a cluster have in common, and the name of this one. Raises UsageError for what cannot be.

    *lease*, in seconds, is how long a node that stopped keeps its shards; another one polls their jobs below 1.1 times
    that later. *shards* is into how many parts the jobs are divided; a node without one polls nothing, so it is some
    times the number of nodes. Both are the same on every node, and so is *name*, which the keys in the engine begin
    with: clusters with different names share an engine without a conflict. *node* is how operators know this node, by
    default the name of its host.
    """

    lease: float = 10.0
    shards: int = 64
    node: str | None = None
    name: str = "relay"

    def __post_init__(self) -> None:
        if not SHORTEST_LEASE <= self.lease <= LONGEST_LEASE:
            raise UsageError(f"a lease is {SHORTEST_LEASE:g} to {LONGEST_LEASE:g} seconds, not {self.lease:g}")
        if not 1 <= self.shards <= MOST_SHARDS:
            raise UsageError(f"a cluster has 1 to {MOST_SHARDS} shards, not {self.shards}")
        for what, name in (("node", self.node), ("cluster", self.name)):
            if name is not None and not _NAME.fullmatch(name):
                raise UsageError(
                    f"the name of a {what} is 1 to 48 letters, digits, '.', '_' and '-', "
                    "and begins with a letter or a digit"
                )


def new_node_name(options: ClusterOptions) -> str:
    """A name for this process among the nodes: that of *options*, or of the host, and random digits behind it.

    It differs after a restart: leases and batches of the process before belong to that one alone.
    """
    given = options.node or _NOT_IN_A_NAME.sub("-", socket.gethostname()).strip("-._")[:48] or "node"
    return f"{given}-{secrets.token_hex(4)}"
