"""One file a dialect. An adapter translates between its API and `relay.observations`, and does nothing else."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.upstreams.base import CallsBack, Cancels, FetchesResults, Pushes, Submits, Upstream
    from relay.upstreams.comfyui import ComfyUI
    from relay.upstreams.declared.adapter import Declared
    from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
    from relay.upstreams.fal import Fal
    from relay.upstreams.items import ItemUpstream
    from relay.upstreams.kling import Kling
    from relay.upstreams.luma import Luma
    from relay.upstreams.minimax import MiniMax
    from relay.upstreams.new_api import NewApi
    from relay.upstreams.openai_videos import OpenAIVideos
    from relay.upstreams.replicate import Replicate
    from relay.upstreams.runway import Runway
    from relay.upstreams.sora import Sora
    from relay.upstreams.veo import Veo

__all__ = [
    "CallsBack",
    "CancelRequest",
    "Cancels",
    "ComfyUI",
    "Declared",
    "Fal",
    "FetchesResults",
    "ItemUpstream",
    "Kling",
    "Luma",
    "MiniMax",
    "NewApi",
    "OpenAIVideos",
    "PollRequest",
    "Pushes",
    "Replicate",
    "ResultRequest",
    "Runway",
    "Sora",
    "SubmitRequest",
    "Submits",
    "Upstream",
    "Veo",
]

_HOMES = {
    "CancelRequest": "relay.upstreams.declared.declaration",
    "Declared": "relay.upstreams.declared.adapter",
    "ComfyUI": "relay.upstreams.comfyui",
    "Fal": "relay.upstreams.fal",
    "ItemUpstream": "relay.upstreams.items",
    "Kling": "relay.upstreams.kling",
    "Luma": "relay.upstreams.luma",
    "MiniMax": "relay.upstreams.minimax",
    "NewApi": "relay.upstreams.new_api",
    "OpenAIVideos": "relay.upstreams.openai_videos",
    "PollRequest": "relay.upstreams.declared.declaration",
    "Replicate": "relay.upstreams.replicate",
    "ResultRequest": "relay.upstreams.declared.declaration",
    "Runway": "relay.upstreams.runway",
    "Sora": "relay.upstreams.sora",
    "SubmitRequest": "relay.upstreams.declared.declaration",
    "Veo": "relay.upstreams.veo",
}


def __getattr__(name: str) -> Any:
    """Adapters are imported when they are first named: they bring an HTTP client, which most imports do not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "relay.upstreams.base")), name)
