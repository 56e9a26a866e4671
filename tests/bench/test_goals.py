"""The table of goals: what a reader of it may rely on."""

from datetime import UTC, datetime

import pytest

from tests.bench.fanout.servers import missing
from tests.bench.goals import GOALS, PARTS_OF_GOALS, goals_table
from tests.bench.part import Figure, Findings, Plan
from tests.bench.parts import PARTS, part
from tests.bench.report import Report, Section


def report(part: str, *figures: Figure, failed: tuple[str, ...] = ()) -> Report:
    return Report(
        taken=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        rounds=3,
        quick=False,
        machine={},
        versions={},
        sections=[Section(part=part, seconds=1, findings=Findings(figures=figures, failed=failed))],
    )


def test_a_goal_shows_its_figure_what_it_should_reach_and_what_then() -> None:
    met = Figure(name="S1b CPU of a delivery, relay / nchan", value=1.04, unit="x", goal=1.05)
    well = Figure(name="S1 CPU of a delivery, relay / nchan", value=0.7, unit="x", goal=0.75)
    short = Figure(name="S3y CPU of a delivery, relay / nchan", value=1.98, unit="x", goal=1.15)

    lines = goals_table(report("fanout", met, well, short)).splitlines()

    assert "| S1b | relay / nchan | 1.04 x | 1.05 | met | 0.95 |" in lines
    assert "| S1 | relay / nchan | 0.70 x | 0.75 | met (0.70 as well) | 0.70 |" in lines
    assert "| S3y | relay / nchan | 1.98 x | 1.15 | falls short | 1 |" in lines
    assert "| S2 | CPU of a delivery | not measured | | | 0.37 |" in lines
    assert lines[-1] == "Broken promises: none."


def test_of_several_figures_the_worst_is_shown() -> None:
    name = "loop held, a pass over 10,000 jobs, "
    figures = [
        Figure(name=f"{name}{turn}", value=held, unit="ms", goal=50)
        for turn, held in (("nothing has changed", 20), ("all have changed", 61), ("all have ended", 40))
    ]

    assert "| list of 10,000 | the loop is held, wall | 61 ms | 50 | falls short | 30 |" in goals_table(
        report("polling", *figures)
    )


def test_what_must_never_be_is_named() -> None:
    lost = Figure(name="records that no sink heard", value=2, goal=0)

    assert goals_table(report("journal", lost, failed=("OSError: no room is left",))).splitlines()[-1] == (
        "Broken promises: journal: records that no sink heard: 2; journal: OSError: no room is left."
    )


@pytest.mark.skipif(missing("relay") is not None, reason=f"nothing is measured: it needs {missing('relay')}")
@pytest.mark.parametrize("name", PARTS_OF_GOALS)
def test_a_part_measures_the_goals_that_are_its_own(name: str) -> None:
    findings = part(name)(Plan(rounds=1, quick=True, goals=True))

    assert list(findings.failed) == []
    measured = {figure.name.replace("over 200 jobs", "over 10,000 jobs") for figure in findings.figures}
    needs = {"nchan": missing("nchan"), "other Python": missing("relay-other")}
    wanted = {
        wanted
        for goal in GOALS
        if goal.part == name
        for wanted in goal.names
        if not any(lacking and server in wanted for server, lacking in needs.items())
    }
    assert wanted - measured == set()


def test_every_goal_has_a_part() -> None:
    assert set(PARTS_OF_GOALS) <= set(PARTS)
