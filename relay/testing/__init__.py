"""For tests of programs that use the relay: a scripted upstream, a clock moved by hand. Needs no test runner."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.testing.checks import check_sink
    from relay.testing.clock import ManualClock
    from relay.testing.samples import sample_records
    from relay.testing.scenarios import SCENARIOS, Moment, Scenario
    from relay.testing.upstream import ScriptedUpstream

__all__ = ["SCENARIOS", "ManualClock", "Moment", "Scenario", "ScriptedUpstream", "check_sink", "sample_records"]

_HOMES = {
    "ManualClock": "relay.testing.clock",
    "SCENARIOS": "relay.testing.scenarios",
    "Moment": "relay.testing.scenarios",
    "Scenario": "relay.testing.scenarios",
    "ScriptedUpstream": "relay.testing.upstream",
    "check_sink": "relay.testing.checks",
    "sample_records": "relay.testing.samples",
}


def __getattr__(name: str) -> Any:
    """Each part is imported when it is first named: the clock needs no HTTP server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
