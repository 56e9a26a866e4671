"""Kinds of sinks that other packages bring: the entry points of the group `progress_relay.sinks`.

The command line reads them, and nothing else does: for a kind that is not in the box, and for `relay sinks`. Only then
is `importlib.metadata` imported (75 ms), and a package once it is named.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from relay import ConfigError

__all__ = ["GROUP", "PackagedSink", "packaged_sinks", "packaged_target"]

GROUP: Final = "progress_relay.sinks"


class PackagedSink(NamedTuple):
    """One entry point: the *kind*, the *distribution* that brings it, and the object that it names (*target*)."""

    kind: str
    distribution: str
    target: str
    load: Callable[[], Any]
    """Imports the object; raises whatever its package raises."""


def packaged_sinks() -> list[PackagedSink]:
    """The sinks that installed packages bring, by kind and distribution. Nothing of them is imported."""
    from importlib.metadata import entry_points

    found = [
        PackagedSink(
            one.name,
            f"{one.dist.name} {one.dist.version}" if one.dist is not None else "an unknown package",
            one.value.partition("[")[0].strip(),
            one.load,
        )
        for one in entry_points(group=GROUP)
    ]
    return sorted(found, key=lambda one: one[:3])


def packaged_target(kind: str) -> str | None:
    """The `package.module:Name` that a package brings as *kind*; None if none does.

    Raises ConfigError if several packages bring that kind: neither is preferred.
    """
    found = [one for one in packaged_sinks() if one.kind == kind]
    if len(found) > 1:
        several = " and ".join(one.distribution for one in found)
        raise ConfigError(f"the kind {kind!r} is brought by {several}; remove one, or write package.module:Name")
    return found[0].target if found else None
