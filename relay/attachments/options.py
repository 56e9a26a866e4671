"""How a sink is added: which records it receives, from where on, and under which name."""

from collections.abc import Callable, Collection
from itertools import count
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from relay.errors import UsageError
from relay.events import EVENTS, LEVELS, Level, Position, Record
from relay.jobs.state import Job

__all__ = ["Since", "SinkOptions", "check_options", "unique_name"]

Since: TypeAlias = Position | Literal["start", "now"]
"""Where a sink begins: behind a position, with the oldest record that is kept, or with the next one."""

NAME_LIMIT: Final = 64
_TYPES: Final = frozenset(str(event.__struct_config__.tag) for event in EVENTS)


class SinkOptions(Struct, frozen=True, kw_only=True):
    """A *sink*, and how it is added. `Relay` accepts it in place of a sink, and `Relay.add_sink` has the same options.

    *level*: the least level; terminal records come at every level. *jobs*: only records of these. *types*: only events
    with these tags. *where*: only records for which it returns true. *since*: where to begin. *name*: how notices and
    figures call it. *durable*: it works from the journal, from where it got to, also across restarts; it needs a name.
    """

    sink: Any
    level: Level = "debug"
    jobs: Collection[str | Job] | None = None
    types: Collection[str] | None = None
    where: Callable[[Record], object] | None = None
    since: Since | None = None
    name: str | None = None
    durable: bool = False


def check_options(options: SinkOptions) -> None:
    """Raise UsageError for an option that is none, with a sentence that lists those that are."""
    if options.level not in LEVELS:
        raise UsageError(f"a sink has one of the levels {', '.join(LEVELS)}, not {options.level!r}")
    if isinstance(options.types, str) or isinstance(options.jobs, str):
        raise UsageError("jobs and types are collections: write them in brackets")
    if unknown := sorted(set(options.types or ()) - _TYPES):
        raise UsageError(f"no event has the type {unknown[0]!r}; there are {', '.join(sorted(_TYPES))}")
    if options.name is not None and not (
        1 <= len(options.name) <= NAME_LIMIT and options.name.isascii() and options.name.isprintable()
    ):
        raise UsageError(f"the name of a sink is 1 to {NAME_LIMIT} printing ASCII characters")
    if options.since not in (None, "start", "now") and type(options.since) is not Position:
        raise UsageError('since is a Position, "start" or "now"')
    if options.durable and options.name is None:
        raise UsageError("a durable sink needs a name of its own: its place in the journal is kept under it")
    if options.durable and (options.jobs is not None or options.since is not None):
        raise UsageError("a durable sink receives every job from where it got to: leave out jobs and since")


def unique_name(name: str, used: Collection[str]) -> str:
    """*name*; with a number behind it if that is one of *used*: `K`, `K-2`, `K-3`."""
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in used else next(other for other in numbered if other not in used)
