"""For tests of programs that use the relay: scripted upstreams, a clock moved by hand. Needs no test runner."""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.testing.clock import ManualClock as ManualClock
    from relay.testing.conformance.far_end import ScriptedFarEnd as ScriptedFarEnd
    from relay.testing.conformance.samples import sample_records as sample_records
    from relay.testing.conformance.sink import SINK_LAWS as SINK_LAWS
    from relay.testing.conformance.sink import check_sink as check_sink
    from relay.testing.conformance.sink_report import SinkReport as SinkReport
    from relay.testing.conformance.trial import UpstreamBodies as UpstreamBodies
    from relay.testing.conformance.upstream import check_upstream as check_upstream
    from relay.testing.scripted.base import ScriptedItems as ScriptedItems
    from relay.testing.scripted.comfyui import ScriptedComfyUI as ScriptedComfyUI
    from relay.testing.scripted.fal import ScriptedFal as ScriptedFal
    from relay.testing.scripted.kling import ScriptedKling as ScriptedKling
    from relay.testing.scripted.luma import ScriptedLuma as ScriptedLuma
    from relay.testing.scripted.minimax import ScriptedMiniMax as ScriptedMiniMax
    from relay.testing.scripted.new_api import ScriptedNewApi as ScriptedNewApi
    from relay.testing.scripted.openai_videos import ScriptedOpenAIVideos as ScriptedOpenAIVideos
    from relay.testing.scripted.replicate import ScriptedReplicate as ScriptedReplicate
    from relay.testing.scripted.runway import ScriptedRunway as ScriptedRunway
    from relay.testing.scripted.scenarios import SCENARIOS as SCENARIOS
    from relay.testing.scripted.scenarios import Moment as Moment
    from relay.testing.scripted.scenarios import Scenario as Scenario
    from relay.testing.scripted.sora import ScriptedUpstream as ScriptedUpstream
    from relay.testing.scripted.veo import ScriptedVeo as ScriptedVeo
else:
    # Each part is imported when it is first used: the clock needs no HTTP server.
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.testing.clock": ["ManualClock"],
            "relay.testing.conformance.far_end": ["ScriptedFarEnd"],
            "relay.testing.conformance.samples": ["sample_records"],
            "relay.testing.conformance.sink": ["SINK_LAWS", "check_sink"],
            "relay.testing.conformance.sink_report": ["SinkReport"],
            "relay.testing.conformance.trial": ["UpstreamBodies"],
            "relay.testing.conformance.upstream": ["check_upstream"],
            "relay.testing.scripted.base": ["ScriptedItems"],
            "relay.testing.scripted.comfyui": ["ScriptedComfyUI"],
            "relay.testing.scripted.fal": ["ScriptedFal"],
            "relay.testing.scripted.kling": ["ScriptedKling"],
            "relay.testing.scripted.luma": ["ScriptedLuma"],
            "relay.testing.scripted.minimax": ["ScriptedMiniMax"],
            "relay.testing.scripted.new_api": ["ScriptedNewApi"],
            "relay.testing.scripted.openai_videos": ["ScriptedOpenAIVideos"],
            "relay.testing.scripted.replicate": ["ScriptedReplicate"],
            "relay.testing.scripted.runway": ["ScriptedRunway"],
            "relay.testing.scripted.scenarios": ["Moment", "SCENARIOS", "Scenario"],
            "relay.testing.scripted.sora": ["ScriptedUpstream"],
            "relay.testing.scripted.veo": ["ScriptedVeo"],
        },
    )
