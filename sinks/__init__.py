"""One output, one small file, knowing no other output. Names are imported when they are first used."""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.queue import EndpointGone as EndpointGone
    from relay.queue import Queued as Queued
    from relay.queue import Retries as Retries
    from relay.queue import RetryLater as RetryLater
    from relay.queue import Undeliverable as Undeliverable
    from sinks.console import ConsoleSink as ConsoleSink
    from sinks.debug import DebugSink as DebugSink
    from sinks.file import FileKeep as FileKeep
    from sinks.file import FileRotation as FileRotation
    from sinks.file import FileSink as FileSink
    from sinks.logging import LoggingSink as LoggingSink
    from sinks.nats import NatsSink as NatsSink
    from sinks.otel import OtelSink as OtelSink
    from sinks.postgres import PostgresSink as PostgresSink
    from sinks.redis import RedisSink as RedisSink
    from sinks.sse import HEARTBEAT as HEARTBEAT
    from sinks.sse import frame as frame
    from sinks.sse import notice_frame as notice_frame
    from sinks.structlog import StructlogSink as StructlogSink
    from sinks.webhook import WebhookSink as WebhookSink
else:
    # A program that serves streams alone need not load what the console needs.
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.queue": ["EndpointGone", "Queued", "Retries", "RetryLater", "Undeliverable"],
            "sinks.console": ["ConsoleSink"],
            "sinks.debug": ["DebugSink"],
            "sinks.file": ["FileKeep", "FileRotation", "FileSink"],
            "sinks.nats": ["NatsSink"],
            "sinks.postgres": ["PostgresSink"],
            "sinks.redis": ["RedisSink"],
            "sinks.logging": ["LoggingSink"],
            "sinks.otel": ["OtelSink"],
            "sinks.sse": ["HEARTBEAT", "frame", "notice_frame"],
            "sinks.structlog": ["StructlogSink"],
            "sinks.webhook": ["WebhookSink"],
        },
    )
