"""The objects that all handlers of streams share."""

from aiohttp.web import AppKey

from web.streaming.fanout import FanOut
from web.streaming.patience import ClientWaits
from web.streaming.reactor import Reactor
from web.streaming.registry import StreamRegistry
from web.turn_queue import TurnQueue

__all__ = ["FAN_OUT", "REACTOR", "STREAMS", "TURNS", "WAITS"]

FAN_OUT = AppKey("fan_out", FanOut)
REACTOR = AppKey("reactor", Reactor)
STREAMS = AppKey("streams", StreamRegistry)
TURNS = AppKey("turns", TurnQueue)
WAITS = AppKey("waits", ClientWaits)
