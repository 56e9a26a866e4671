"""A scenario is a pure function of the seconds since a task was created."""

import json
import math
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.testing import SCENARIOS, Moment, Scenario
from relay.testing.scripted.scenarios import find_scenario

TRACES = json.loads(files("relay.testing").joinpath("sora_traces.json").read_bytes())["traces"]
NAMES = [
    "happy",
    "flat",
    "gap",
    "violation",
    "error-item",
    "missing-url",
    "never-finishes",
    "vanishes",
    "reappears",
    "unauthorised",
    "rate-limited",
    "html",
    "not-a-list",
    "slow",
    "garbage",
    "trace-a",
    "trace-b",
]


def told(name: str, *, until: float = 300.0) -> list[Moment]:
    """What a poller that asks each second is told, said once where it repeats."""
    moments = [SCENARIOS[name].at(second) for second in range(int(until))]
    return [moment for moment, before in zip(moments, [None, *moments], strict=False) if moment != before]


def where(name: str) -> list[str]:
    places = [moment.where for moment in told(name)]
    return [place for place, before in zip(places, [None, *places], strict=False) if place != before]


def test_these_are_the_scenarios() -> None:
    assert list(SCENARIOS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_has_its_name_one_line_about_it_and_phases_in_order_from_the_start(name: str) -> None:
    scenario = SCENARIOS[name]
    starts = [start for start, _ in scenario.phases]
    assert (scenario.name, scenario.description.count("\n"), starts[0]) == (name, 0, 0.0)
    assert scenario.description
    assert starts == sorted(set(starts))


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no scenario 'hapy'; there are happy, flat, gap"):
        find_scenario("hapy")


@given(st.lists(st.floats(0, 1000), min_size=1, unique=True), st.floats(0, 2000))
def test_the_last_phase_that_has_begun_is_shown(starts: list[float], elapsed: float) -> None:
    phases = tuple((start, Moment(progress=start)) for start in sorted(starts))
    begun = [start for start in starts if start <= elapsed]
    assert Scenario("any", "any", phases).at(elapsed).progress == max(begun, default=min(starts))


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("happy", ["pending", "drafts"]),
        ("flat", ["pending", "drafts"]),
        ("gap", ["pending", "nowhere", "drafts"]),
        ("violation", ["pending", "drafts"]),
        ("error-item", ["pending", "drafts"]),
        ("missing-url", ["pending", "drafts"]),
        ("never-finishes", ["pending"]),
        ("vanishes", ["pending", "nowhere"]),
        ("reappears", ["pending", "nowhere", "pending", "drafts"]),
        ("garbage", ["pending", "drafts"]),
        ("trace-a", ["pending", "nowhere", "drafts"]),
        ("trace-b", ["pending", "nowhere", "drafts"]),
    ],
)
def test_each_task_is_seen_where_its_scenario_says(name: str, places: list[str]) -> None:
    assert where(name) == places


def test_a_happy_task_goes_up_to_1_without_a_step_back() -> None:
    figures = [moment.progress for moment in told("happy") if moment.progress is not None]
    assert figures == sorted(figures)
    assert (figures[0], figures[-1]) == (0.05, 1.0)
    assert {0.29, 0.57, 0.58, 0.09000000000000001} < set(figures), "figures that truncation gets wrong"


def test_a_flat_task_has_no_figure_and_then_9_percent_for_three_minutes() -> None:
    figures = [moment.progress for moment in told("flat") if moment.where == "pending"]
    assert figures == [None, 0.09000000000000001, 1.0]
    assert SCENARIOS["flat"].at(7.0).progress == SCENARIOS["flat"].at(186.9).progress == 0.09000000000000001


def test_the_gap_is_4_seconds() -> None:
    at = SCENARIOS["gap"].at
    assert [at(second).where for second in (40.9, 41.0, 44.9, 45.0)] == ["pending", "nowhere", "nowhere", "drafts"]


@pytest.mark.parametrize(
    ("name", "kind", "has_url", "has_reason"),
    [
        ("happy", "sora_draft", True, False),
        ("violation", "sora_content_violation", False, True),
        ("error-item", "sora_error", False, True),
        ("missing-url", "sora_draft", False, False),
    ],
)
def test_each_ends_as_its_name_says(name: str, kind: str, has_url: bool, has_reason: bool) -> None:
    end = told(name)[-1]
    assert (end.where, end.kind, end.has_url, bool(end.reason)) == ("drafts", kind, has_url, has_reason)


@pytest.mark.parametrize("name", ["unauthorised", "rate-limited", "html", "not-a-list"])
def test_an_outage_lasts_12_seconds_and_changes_nothing_else(name: str) -> None:
    for second in range(60):
        happy, moment = SCENARIOS["happy"].at(second), SCENARIOS[name].at(second)
        assert moment.outage == (name if 15 <= second < 27 else None)
        assert (moment.where, moment.status, moment.progress) == (happy.where, happy.status, happy.progress)


def test_a_slow_one_is_slow_for_half_a_minute_and_within_any_time_limit() -> None:
    delays = [SCENARIOS["slow"].at(second).delay for second in (0, 9.9, 10, 39.9, 40, 60)]
    assert delays == [0.0, 0.0, 6.0, 6.0, 0.0, 0.0]


def test_garbage_is_every_kind_of_it() -> None:
    figures: list[Any] = [moment.progress for moment in told("garbage") if moment.where == "pending"]
    assert [figure for figure in figures if not (isinstance(figure, float) and math.isnan(figure))] == [
        None,
        -3,
        "42%",
        math.inf,
        True,
        {"value": 0.5},
        0.5,
        1.7,
    ]
    assert any(isinstance(figure, float) and math.isnan(figure) for figure in figures)
    assert "renderring" in {moment.status for moment in told("garbage")}


@pytest.mark.parametrize("poll", TRACES["A"]["polls"])
def test_trace_a_shows_at_each_captured_poll_what_was_captured(poll: dict[str, Any]) -> None:
    moment = SCENARIOS["trace-a"].at(poll["sent"])
    assert (moment.where, moment.status, moment.progress) == ("pending", poll["status"], poll["progress_pct"])


def test_trace_a_ends_well_after_the_capture_and_its_description_says_that_this_is_made_up() -> None:
    assert SCENARIOS["trace-a"].at(23.656).where == "pending"
    assert told("trace-a")[-1] == Moment(where="drafts")
    assert "made up" in SCENARIOS["trace-a"].description


@pytest.mark.parametrize("phase", TRACES["B"]["phases"])
def test_trace_b_shows_each_observed_phase_from_its_start_to_its_end(phase: dict[str, Any]) -> None:
    expected = (
        (phase["where"], phase["status"], phase["progress_pct"]) if phase["where"] == "pending" else phase["where"]
    )
    for second in (phase["from"], phase["to"] or 10_000.0):
        moment = SCENARIOS["trace-b"].at(second)
        assert expected == (
            (moment.where, moment.status, moment.progress) if moment.where == "pending" else moment.where
        )
