"""The bus: events become records, which are committed, and sent once to every subscriber in the same order."""

from relay.bus.bus import REPLAY_SLICE, Bus

__all__ = ["REPLAY_SLICE", "Bus"]
