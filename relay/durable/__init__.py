"""Durable sinks: each reads the journal behind a cursor of its own, across restarts, at least once."""

from relay.durable.factory import durable_reader
from relay.durable.reader import DRAIN_WITHIN, DurableReader

__all__ = ["DRAIN_WITHIN", "DurableReader", "durable_reader"]
