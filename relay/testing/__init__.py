"""For tests of programs that use the relay: scripted upstreams, a clock moved by hand. Needs no test runner."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.testing.checks import check_sink
    from relay.testing.clock import ManualClock
    from relay.testing.dialects.comfyui import ScriptedComfyUI
    from relay.testing.dialects.fal import ScriptedFal
    from relay.testing.dialects.kling import ScriptedKling
    from relay.testing.dialects.luma import ScriptedLuma
    from relay.testing.dialects.minimax import ScriptedMiniMax
    from relay.testing.dialects.new_api import ScriptedNewApi
    from relay.testing.dialects.openai_videos import ScriptedOpenAIVideos
    from relay.testing.dialects.replicate import ScriptedReplicate
    from relay.testing.dialects.runway import ScriptedRunway
    from relay.testing.dialects.veo import ScriptedVeo
    from relay.testing.items import ScriptedItems
    from relay.testing.samples import sample_records
    from relay.testing.scenarios import SCENARIOS, Moment, Scenario
    from relay.testing.trial import UpstreamBodies
    from relay.testing.upstream import ScriptedUpstream
    from relay.testing.upstream_checks import check_upstream

__all__ = [
    "SCENARIOS",
    "ManualClock",
    "Moment",
    "Scenario",
    "ScriptedComfyUI",
    "ScriptedFal",
    "ScriptedItems",
    "ScriptedKling",
    "ScriptedLuma",
    "ScriptedMiniMax",
    "ScriptedNewApi",
    "ScriptedOpenAIVideos",
    "ScriptedReplicate",
    "ScriptedRunway",
    "ScriptedUpstream",
    "ScriptedVeo",
    "UpstreamBodies",
    "check_sink",
    "check_upstream",
    "sample_records",
]

_HOMES = {
    "ManualClock": "relay.testing.clock",
    "Moment": "relay.testing.scenarios",
    "SCENARIOS": "relay.testing.scenarios",
    "Scenario": "relay.testing.scenarios",
    "ScriptedComfyUI": "relay.testing.dialects.comfyui",
    "ScriptedFal": "relay.testing.dialects.fal",
    "ScriptedItems": "relay.testing.items",
    "ScriptedKling": "relay.testing.dialects.kling",
    "ScriptedLuma": "relay.testing.dialects.luma",
    "ScriptedMiniMax": "relay.testing.dialects.minimax",
    "ScriptedNewApi": "relay.testing.dialects.new_api",
    "ScriptedOpenAIVideos": "relay.testing.dialects.openai_videos",
    "ScriptedReplicate": "relay.testing.dialects.replicate",
    "ScriptedRunway": "relay.testing.dialects.runway",
    "ScriptedUpstream": "relay.testing.upstream",
    "ScriptedVeo": "relay.testing.dialects.veo",
    "UpstreamBodies": "relay.testing.trial",
    "check_sink": "relay.testing.checks",
    "check_upstream": "relay.testing.upstream_checks",
    "sample_records": "relay.testing.samples",
}


def __getattr__(name: str) -> Any:
    """Each part is imported when it is first named: the clock needs no HTTP server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
