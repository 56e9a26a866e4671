"""Durable sinks: each reads the journal behind a cursor of its own, across restarts, at least once.

Names are imported when they are first used: most relays have no durable sink.
"""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.durable.factory import durable_reader as durable_reader
    from relay.durable.reader import DRAIN_WITHIN as DRAIN_WITHIN
    from relay.durable.reader import DurableReader as DurableReader
else:
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.durable.factory": ["durable_reader"],
            "relay.durable.reader": ["DRAIN_WITHIN", "DurableReader"],
        },
    )
