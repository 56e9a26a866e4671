"""The relay and the options, which all handlers of the application share."""

from aiohttp.web import AppKey
from msgspec import Struct

from relay import Relay

__all__ = ["OPTIONS", "RELAY", "Options"]


class Options(Struct, frozen=True, kw_only=True):
    """The options of `create_app`; times are in seconds."""

    heartbeat: float = 15.0
    send_timeout: float = 10.0
    slow_after: float = 2.0
    max_age: float = 3_600.0
    max_streams: int = 10_000
    max_streams_per_client: int = 0
    debug: bool = False
    take_over: bool = True
    sign_of_life: float = 60.0
    hosts: frozenset[str] | None = None
    origins: frozenset[str] = frozenset()


RELAY = AppKey("relay", Relay)
OPTIONS = AppKey("options", Options)
