"""The bus: events become records, which are committed, and sent once to every subscriber in the same order."""

from relay.bus.bus import Bus
from relay.bus.distributor import REPLAY_SLICE

__all__ = ["REPLAY_SLICE", "Bus"]
