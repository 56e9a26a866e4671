"""What the application's handlers share."""

from aiohttp.web import AppKey
from msgspec import Struct

from relay.relay import Relay
from web.fanout import FanOut
from web.live import LiveStreams

__all__ = ["FAN_OUT", "OPTIONS", "RELAY", "STREAMS", "Options"]


class Options(Struct, frozen=True, kw_only=True):
    """How the application behaves; times are in seconds."""

    heartbeat: float = 15.0
    send_timeout: float = 10.0
    slow_after: float = 2.0
    max_age: float = 3_600.0
    max_streams: int = 10_000
    max_streams_per_client: int = 0
    debug: bool = False
    take_over: bool = True
    hosts: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()


RELAY = AppKey("relay", Relay)
OPTIONS = AppKey("options", Options)
FAN_OUT = AppKey("fan_out", FanOut)
STREAMS = AppKey("streams", LiveStreams)
