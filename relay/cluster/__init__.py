"""Several nodes over one engine: which node polls what, by leases with fencing tokens.

Names are imported when they are first used: most relays are alone.
"""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.cluster.membership import Membership as Membership
    from relay.cluster.node import ClusterNode as ClusterNode
    from relay.cluster.options import ClusterOptions as ClusterOptions
    from relay.cluster.shards import Shards as Shards
else:
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.cluster.membership": ["Membership"],
            "relay.cluster.node": ["ClusterNode"],
            "relay.cluster.options": ["ClusterOptions"],
            "relay.cluster.shards": ["Shards"],
        },
    )
