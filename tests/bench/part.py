"""What a part of the benchmark is: a module of this directory with a function `measure`, named in `parts.PARTS`.

    def measure(plan: Plan) -> Findings

It runs what it measures at least `plan.rounds` times, interleaved, and makes each round's figure a sample. A peer that
is not installed is left out, and named in *skipped*. Where `plan.quick` is set, sizes are small and everything is done
within some seconds: that run only shows that the part still works. Figures are costs, so less is always better.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, Protocol

from msgspec import Struct

__all__ = ["Figure", "Findings", "Measure", "Plan", "least", "most", "ratio"]


class Plan(Struct, frozen=True, kw_only=True):
    """How to measure. *say* is told how it goes, a line at a time.

    Where *goals* is set, a part measures only what the table of goals is made of (`goals.GOALS`). *minutes* is how long
    the part `traffic` lasts. *scenarios* and *servers* choose among those of the part `fanout`; all, where they are
    empty.
    """

    rounds: int = 3
    quick: bool = False
    goals: bool = False
    minutes: float = 2.0
    say: Callable[[str], object] = print
    scenarios: Sequence[str] = ()
    servers: Sequence[str] = ()


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cost, and the most it may be, where there is a *goal*.

    *name* says it in words, and is the same in every run: by it, an older run is compared. *unit* is one of the
    table's, such as `us`, `KB` or `x` for a ratio. *spread* is how far the rounds lay apart, as a share of *value*;
    differences below that mean nothing. *note* says in a few words what a reader of the table would ask.
    """

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    spread: float = 0.0
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.goal is None else self.value <= self.goal


class Findings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a part has found.

    *skipped*: what was not measured, in words, each with what it needs. *failed*: what broke down. *versions* of what
    was measured beside the relay, by name. *detail* is Markdown that stands below the part's table; *rows* is what the
    figures were made of, for the JSON file.
    """

    figures: Sequence[Figure] = ()
    skipped: Sequence[str] = ()
    failed: Sequence[str] = ()
    versions: dict[str, str] = {}
    detail: str = ""
    rows: Sequence[Any] = ()


class Measure(Protocol):
    """A part's function."""

    def __call__(self, plan: Plan) -> Findings: ...


_TINY: Final = 1e-12


def least(name: str, unit: str, samples: Sequence[float], *, goal: float | None = None, note: str = "") -> Figure:
    """The least of all rounds: what else the machine does only ever adds to a time."""
    return Figure(name=name, value=min(samples), unit=unit, goal=goal, spread=_spread(samples), note=note)


def most(name: str, unit: str, samples: Sequence[float], *, goal: float | None = None, note: str = "") -> Figure:
    """The most of all rounds: for what must never be, such as a gap."""
    spread = (max(samples) - median(samples)) / max(abs(max(samples)), _TINY)
    return Figure(name=name, value=max(samples), unit=unit, goal=goal, spread=spread, note=note)


def ratio(
    name: str, over: Sequence[float], under: Sequence[float], *, goal: float | None = None, note: str = ""
) -> Figure:
    """How the least of *over* compares with the least of *under*, which the same run measured."""
    value = min(over) / max(min(under), _TINY)
    return Figure(name=name, value=value, unit="x", goal=goal, spread=_spread(over) + _spread(under), note=note)


def _spread(samples: Sequence[float]) -> float:
    return (median(samples) - min(samples)) / max(abs(min(samples)), _TINY)
