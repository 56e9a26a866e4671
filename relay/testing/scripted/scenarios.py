"""How scripted tasks go: for each scenario, what the upstream shows at each second since the task was created."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from relay import UsageError

__all__ = ["SCENARIOS", "Moment", "Outage", "Scenario", "find_scenario"]

Outage: TypeAlias = Literal["unauthorised", "rate-limited", "html", "not-a-list"]


class Moment(Struct, frozen=True, kw_only=True):
    """What the upstream shows of a task at one time.

    *progress* is the wire value of `progress_pct`, which need not make sense. *kind*, *has_url* and *reason* matter in
    the drafts. An *outage* and a *delay* (in seconds) are of the whole account's answers, not only this task's.
    """

    where: Literal["pending", "drafts", "nowhere"] = "pending"
    status: str = "running"
    progress: Any = None
    kind: Literal["sora_draft", "sora_content_violation", "sora_error"] = "sora_draft"
    has_url: bool = True
    reason: str | None = None
    outage: Outage | None = None
    delay: float = 0.0


Phases: TypeAlias = tuple[tuple[float, Moment], ...]


class Scenario(Struct, frozen=True):
    """A task's life as data: each phase is the second it begins at, and the moment that lasts until the next begins."""

    name: str
    description: str
    phases: Phases

    def at(self, elapsed: float) -> Moment:
        """The moment *elapsed* seconds after the creation of the task."""
        shown = self.phases[0][1]
        for start, moment in self.phases:
            if start > elapsed:
                break
            shown = moment
        return shown


_PREPROCESSING: Final = Moment(status="preprocessing")
_QUEUED: Final = Moment(status="queued")
_PROCESSING: Final = Moment(status="processing", progress=1.0)
_NOWHERE: Final = Moment(where="nowhere")
_DRAFT: Final = Moment(where="drafts")

# Among them are figures that binary fractions get wrong when they are truncated: 0.29 * 100 is 28.999999999999996.
_STEPS: Final = (0.05, 0.09000000000000001, 0.16, 0.22, 0.29, 0.36, 0.43, 0.5, 0.57, 0.58, 0.66, 0.74, 0.81, 0.88, 0.94)

_WORK: Final[Phases] = (
    (0.0, _PREPROCESSING),
    (3.0, _QUEUED),
    *((8.0 + 2.0 * step, Moment(progress=progress)) for step, progress in enumerate(_STEPS)),
    (38.0, _PROCESSING),
)
"""41 seconds of a task that goes well, up to where it leaves the pending list."""

_HAPPY: Final[Phases] = (*_WORK, (41.0, _DRAFT))


def _during(phases: Phases, start: float, end: float, **changes: Any) -> Phases:
    """The same phases with *changes* to what is shown from *start* to *end*."""
    whole = Scenario("", "", phases)
    times = sorted({start, end, *(begins for begins, _ in phases)})
    return tuple(
        (time, replace(whole.at(time), **changes) if start <= time < end else whole.at(time)) for time in times
    )


def _steps(start: float, length: float, moments: Iterable[Moment]) -> Phases:
    return tuple((start + length * step, moment) for step, moment in enumerate(moments))


def _trace_a(polls: list[dict[str, Any]]) -> Phases:
    """The captured polls; then, since the capture ends while the job runs, an end made up after trace B's."""
    captured = ((poll["sent"], Moment(status=poll["status"], progress=poll["progress_pct"])) for poll in polls)
    made_up = ((60.0, Moment(progress=0.1)), (120.0, _PROCESSING), (125.0, _NOWHERE), (129.0, _DRAFT))
    return ((0.0, _PREPROCESSING), *captured, *made_up)


def _trace_b(phases: list[dict[str, Any]]) -> Phases:
    """The observed phases, each lasting until the next one was first seen."""
    return ((0.0, _PREPROCESSING), *((phase["from"], _observed(phase)) for phase in phases))


def _observed(phase: dict[str, Any]) -> Moment:
    if phase["where"] != "pending":
        return Moment(where=phase["where"], kind=phase.get("kind", "sora_draft"))
    return Moment(status=phase["status"], progress=phase["progress_pct"])


_TRACES: Final[dict[str, Any]] = json.loads(Path(__file__).parents[1].joinpath("sora_traces.json").read_bytes())[
    "traces"
]

_VIOLATION: Final = Moment(
    where="drafts",
    kind="sora_content_violation",
    has_url=False,
    reason="This content may violate our guardrails concerning similarity to third-party content.",
)
_ERROR: Final = Moment(where="drafts", kind="sora_error", has_url=False, reason="Something went wrong while rendering.")

_GARBAGE: Final = (
    Moment(progress=None),
    Moment(progress=-3),
    Moment(progress="42%"),
    Moment(progress=math.nan),
    Moment(progress=math.inf),
    Moment(progress=True),
    Moment(progress={"value": 0.5}),
    Moment(progress=0.5, status="renderring"),
    Moment(progress=1.7),
)

_ALL: Final = (
    Scenario("happy", "queued, then steady progress, then a result: 41 s", _HAPPY),
    Scenario(
        "flat",
        "no figure, then 9 % for three minutes, then done",
        (
            (0.0, _PREPROCESSING),
            (7.0, Moment(progress=0.09000000000000001)),
            (187.0, _PROCESSING),
            (190.0, _DRAFT),
        ),
    ),
    Scenario(
        "gap", "in neither list for 4 s between its progress and its result", (*_WORK, (41.0, _NOWHERE), (45.0, _DRAFT))
    ),
    Scenario("violation", "ends as a violation of the content rules", (*_WORK, (41.0, _VIOLATION))),
    Scenario("error-item", "ends as an error among the drafts", (*_WORK, (41.0, _ERROR))),
    Scenario("missing-url", "ends as a draft that names no file", (*_WORK, (41.0, replace(_DRAFT, has_url=False)))),
    Scenario("never-finishes", "stays at 42 % for ever", ((0.0, _PREPROCESSING), (5.0, Moment(progress=0.42)))),
    Scenario("vanishes", "leaves the pending list at 20 s and is never seen again", (*_WORK[:8], (20.0, _NOWHERE))),
    Scenario(
        "reappears",
        "in neither list from 15 s to 27 s, then pending again, then done",
        _during(_HAPPY, 15.0, 27.0, where="nowhere"),
    ),
    Scenario(
        "unauthorised",
        "the account's token is refused (401) from 15 s to 27 s",
        _during(_HAPPY, 15.0, 27.0, outage="unauthorised"),
    ),
    Scenario(
        "rate-limited",
        "too many requests (429, Retry-After: 5) from 15 s to 27 s",
        _during(_HAPPY, 15.0, 27.0, outage="rate-limited"),
    ),
    Scenario("html", "a challenge page (403, HTML) from 15 s to 27 s", _during(_HAPPY, 15.0, 27.0, outage="html")),
    Scenario(
        "not-a-list",
        "pending tasks come as an object from 15 s to 27 s",
        _during(_HAPPY, 15.0, 27.0, outage="not-a-list"),
    ),
    Scenario("slow", "every answer takes 6 s from 10 s to 40 s", _during(_HAPPY, 10.0, 40.0, delay=6.0)),
    Scenario(
        "garbage",
        "progress that is null, -3, '42%', NaN, Infinity, true, an object, of an unknown status, 1.7; then done",
        (*_steps(0.0, 5.0, _GARBAGE), (45.0, _DRAFT)),
    ),
    Scenario("trace-a", "a real job of 2025-12-28: 9 % for long; its end is made up", _trace_a(_TRACES["A"]["polls"])),
    Scenario("trace-b", "a real job of 2026-03-20: 169 s, with 4 s in neither list", _trace_b(_TRACES["B"]["phases"])),
)

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""Every named scenario, by name."""


def find_scenario(scenario: str | Scenario) -> Scenario:
    """The scenario itself, or the one of that name. Raises UsageError for a name that is none."""
    if isinstance(scenario, Scenario):
        return scenario
    if scenario not in SCENARIOS:
        raise UsageError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
    return SCENARIOS[scenario]
