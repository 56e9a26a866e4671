"""Several nodes over one engine: which node polls what, by leases with fencing tokens."""

from relay.cluster.membership import Membership
from relay.cluster.options import ClusterOptions
from relay.cluster.shards import Shards

__all__ = ["ClusterOptions", "Membership", "Shards"]
