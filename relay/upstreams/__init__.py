"""One file a dialect. An adapter translates between its API and `relay.observations`, and does nothing else."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.upstreams.base import Cancels, FetchesResults, Submits, Upstream
    from relay.upstreams.sora import Sora

__all__ = ["Cancels", "FetchesResults", "Sora", "Submits", "Upstream"]

_HOMES = {"Sora": "relay.upstreams.sora"}


def __getattr__(name: str) -> Any:
    """Adapters are imported when they are first named: they bring an HTTP client, which most imports do not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "relay.upstreams.base")), name)
