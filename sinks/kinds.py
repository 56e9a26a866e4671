"""The one table of sinks: what `kind` of [[sinks]] names. A new sink is one file, entered here.

A class in it has `settings`, the keys of its table, and `from_settings`. Nothing is imported before it is used.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from relay._exports import KindSettings, class_named
from relay.events import Level

__all__ = ["SINKS", "SINK_KINDS", "SinkSettings", "make_sink", "sink_class"]

SINKS: Final = {
    "console": "sinks.console:ConsoleSink",
    "debug": "sinks.debug:DebugSink",
    "nats": "sinks.nats:NatsSink",
    "postgres": "sinks.postgres:PostgresSink",
    "redis": "sinks.redis:RedisSink",
    "webhook": "sinks.webhook:WebhookSink",
    "file": "sinks.file:FileSink",
    "logging": "sinks.logging:LoggingSink",
    "structlog": "sinks.structlog:StructlogSink",
    "otel": "sinks.otel:OtelSink",
}
"""The class of each kind, as `module:Class`."""


class SinkSettings(Protocol):
    """The keys that every kind of sink has, and the *kind* itself."""

    kind: ClassVar[str]

    @property
    def level(self) -> Level: ...


def sink_class(kind: str) -> Any:
    """The class of this *kind*, which is one of SINKS."""
    return class_named(SINKS[kind])


def make_sink(settings: SinkSettings) -> Any:
    """The sink of one table of [[sinks]]; the relay leaves out the records below its level."""
    return sink_class(settings.kind).from_settings(settings)


SINK_KINDS: Final[Mapping[str, type[Any]]] = KindSettings[Any](SINKS)
"""The settings of each kind of [[sinks]], besides sinks of the operator's own."""
