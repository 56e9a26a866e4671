"""The one table of dialects: what `kind` of [[upstreams]] names. A new dialect is one file, entered here.

Nothing is imported before it is used: an adapter brings an HTTP client, which most programs of ours do not need.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from relay._exports import KindSettings, class_named

if TYPE_CHECKING:
    from relay.upstreams.declared.adapter import Declared as Declared
    from relay.upstreams.dialects.comfyui import ComfyUI as ComfyUI
    from relay.upstreams.dialects.fal import Fal as Fal
    from relay.upstreams.dialects.kling import Kling as Kling
    from relay.upstreams.dialects.luma import Luma as Luma
    from relay.upstreams.dialects.minimax import MiniMax as MiniMax
    from relay.upstreams.dialects.new_api import NewApi as NewApi
    from relay.upstreams.dialects.openai_videos import OpenAIVideos as OpenAIVideos
    from relay.upstreams.dialects.replicate import Replicate as Replicate
    from relay.upstreams.dialects.runway import Runway as Runway
    from relay.upstreams.dialects.sora import Sora as Sora
    from relay.upstreams.dialects.veo import Veo as Veo
    from relay.upstreams.http.account import AccountUpstream
    from relay.upstreams.settings import UpstreamSettings

DIALECTS: Final = {
    "sora": "relay.upstreams.dialects.sora:Sora",
    "openai-videos": "relay.upstreams.dialects.openai_videos:OpenAIVideos",
    "new-api": "relay.upstreams.dialects.new_api:NewApi",
    "runway": "relay.upstreams.dialects.runway:Runway",
    "luma": "relay.upstreams.dialects.luma:Luma",
    "replicate": "relay.upstreams.dialects.replicate:Replicate",
    "fal": "relay.upstreams.dialects.fal:Fal",
    "veo": "relay.upstreams.dialects.veo:Veo",
    "kling": "relay.upstreams.dialects.kling:Kling",
    "minimax": "relay.upstreams.dialects.minimax:MiniMax",
    "http": "relay.upstreams.declared.adapter:Declared",
    "comfyui": "relay.upstreams.dialects.comfyui:ComfyUI",
}
"""The adapter of each kind, as `module:Class`; its `settings` are the keys of its table. The imports above repeat the
classes for type checkers."""


def adapter(kind: str) -> "type[AccountUpstream]":
    """The class of the adapter of this *kind*, which is one of DIALECTS."""
    return cast("type[AccountUpstream]", class_named(DIALECTS[kind]))


def adapters() -> dict[str, tuple[str, ...]]:
    """The modules of DIALECTS, each with its adapter: public names of `relay.upstreams`."""
    named = (target.partition(":") for target in DIALECTS.values())
    return {module: (name,) for module, _, name in named}


UPSTREAM_KINDS: "Final[Mapping[str, type[UpstreamSettings]]]" = KindSettings["UpstreamSettings"](DIALECTS)
"""The settings of each kind of [[upstreams]]."""
