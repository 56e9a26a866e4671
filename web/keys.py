"""What the application's handlers share."""

from aiohttp.web import AppKey
from msgspec import Struct

from relay.relay import Relay
from web.live import LiveStreams

__all__ = ["OPTIONS", "RELAY", "STREAMS", "Options"]


class Options(Struct, frozen=True, kw_only=True):
    """How the application behaves; times are in seconds."""

    heartbeat: float = 15.0
    send_timeout: float = 30.0
    max_streams: int = 10_000
    debug: bool = False
    hosts: frozenset[str] | None = None


RELAY = AppKey("relay", Relay)
OPTIONS = AppKey("options", Options)
STREAMS = AppKey("streams", LiveStreams)
