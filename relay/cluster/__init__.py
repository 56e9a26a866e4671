"""Several nodes over one engine: which node polls what, by leases with fencing tokens."""

from relay.cluster.membership import Membership
from relay.cluster.options import ClusterOptions, new_node_name
from relay.cluster.shards import Shards

__all__ = ["ClusterOptions", "Membership", "Shards", "new_node_name"]
