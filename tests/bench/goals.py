"""The goals of the relay's speed, one row for each, and the parts of the benchmark that measure them.

What a figure must reach stands where it is measured (`Figure.goal`); this is the short list of those that were set as
goals of the whole product, in the order in which they are shown.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from tests.bench.part import Figure
from tests.bench.report import Report, number, value

__all__ = ["GOALS", "PARTS_OF_GOALS", "Goal", "goals_table"]


class Goal(Struct, frozen=True, kw_only=True):
    """One figure of the table. Where it has several *names*, the worst of these is shown.

    *then* is what to reach after that.
    """

    scenario: str
    words: str
    part: str
    names: Sequence[str]
    then: float | None = None


def _fan(scenario: str, words: str, name: str, then: float | None = None) -> Goal:
    return Goal(scenario=scenario, words=words, part="fanout", names=[f"{scenario} {name}"], then=then)


def _record(words: str, case: str, then: float) -> Goal:
    return Goal(scenario="record", words=words, part="journal", names=[f"CPU of a record, {case}"], then=then)


_CPU: Final = "CPU of a delivery"
_TURNS: Final = ("nothing has changed", "all have changed", "all have ended")

GOALS: Final[Sequence[Goal]] = (
    _fan("S1", "relay / nchan", f"{_CPU}, relay / nchan", 0.70),
    _fan("S1", "relay / C", f"{_CPU}, relay / c-limit", 1.10),
    _fan("S1d", "relay / nchan", f"{_CPU}, relay / nchan", 0.85),
    _fan("S1d", "relay / C", f"{_CPU}, relay / c-limit"),
    _fan("S1b", "relay / nchan", f"{_CPU}, relay / nchan", 0.95),
    _fan("S3y", "relay / nchan", f"{_CPU}, relay / nchan", 1.0),
    _fan("S3y", "relay / nchan, on the other Python", f"{_CPU}, relay on the other Python / nchan", 0.75),
    _fan("S3y", "relay / C", f"{_CPU}, relay / c-limit"),
    _fan("S2", "CPU of a delivery", _CPU, 0.37),
    _fan("S4", "memory of an idle stream", "memory of an idle reader", 0.5),
    _fan("S4", "CPU to accept a stream", "CPU to accept a reader", 100),
    _fan("S4", "10,000 idle streams", "CPU while all are idle", 0.7),
    _record("CPU, in memory", "memory, a commit each", 5),
    _record("CPU, SQLite, gathered", "SQLite, one by one, gathered", 12),
    _record("CPU, SQLite, alone", "SQLite, a commit each", 55),
    Goal(
        scenario="poll of one job",
        words="CPU / naive loop that publishes nothing",
        part="polling",
        names=["CPU a poll, relay / a task for each job"],
        then=0.6,
    ),
    Goal(
        scenario="list of 10,000",
        words="the loop is held, wall",
        part="polling",
        names=[f"loop held, a pass over 10,000 jobs, {turn}" for turn in _TURNS],
        then=30,
    ),
    _fan("S1", "p99 latency, relay / nchan", "p99 latency, relay / nchan", 0.7),
    _fan("S1d", "p99 latency, relay / nchan", "p99 latency, relay / nchan", 0.7),
    Goal(
        scenario="S5",
        words="healthy readers' missing, the machine stalled for 3 s in each run",
        part="stalls",
        names=["the others' missing, a stall of 3 s in each run"],
    ),
)

PARTS_OF_GOALS: Final = tuple(dict.fromkeys(goal.part for goal in GOALS))


def goals_table(report: Report) -> str:
    """The table of goals: each with its figure, what it should reach, and whether it does."""
    lines = [
        "## The goals",
        "",
        "| scenario | figure | value | to reach | | then |",
        "| --- | --- | ---: | ---: | --- | ---: |",
        *(_row(goal, report) for goal in GOALS),
        "",
    ]
    faults = list(_faults(report))
    return "\n".join([*lines, f"Broken promises: {'; '.join(faults) or 'none'}.", ""])


def _row(goal: Goal, report: Report) -> str:
    found = _found(goal, report)
    if found is None:
        return f"| {goal.scenario} | {goal.words} | not measured | | | {number(goal.then)} |"
    word = {None: "", True: "met", False: "falls short"}[None if report.quick else found.met]
    note = f" ({number(goal.then)} as well)" if goal.then is not None and found.value <= goal.then and word else ""
    reach = number(found.goal)
    return f"| {goal.scenario} | {goal.words} | {value(found)} | {reach} | {word}{note} | {number(goal.then)} |"


def _found(goal: Goal, report: Report) -> Figure | None:
    """The worst of its figures."""
    figures = [figure for part, figure in report.figures() if part == goal.part and figure.name in goal.names]
    return max(figures, key=lambda figure: figure.value, default=None)


def _faults(report: Report) -> Iterator[str]:
    """The promises that were broken, such as a record that is missing; and the parts that broke down."""
    for part, figure in report.figures():
        if figure.goal == 0 and figure.value:
            yield f"{part}: {figure.name}: {value(figure)}"
    for section in report.sections:
        yield from (f"{section.part}: {line}" for line in section.findings.failed)
