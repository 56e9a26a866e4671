"""One output, one small file, knowing no other output. Names are imported when they are first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sinks.console import ConsoleSink
    from sinks.debug import DebugSink
    from sinks.sse import HEARTBEAT, SseSink, frame, notice_frame

__all__ = ["HEARTBEAT", "ConsoleSink", "DebugSink", "SseSink", "frame", "notice_frame"]

_HOMES = {"ConsoleSink": "sinks.console", "DebugSink": "sinks.debug"}


def __getattr__(name: str) -> Any:
    """A program that serves streams alone need not load what the console needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "sinks.sse")), name)
