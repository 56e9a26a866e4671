"""The house has few rooms and no circle, and each place imports what its law names.

`python -m tests.architecture.plan` prints the plan that these laws are about.
"""

import pytest

from tests.architecture.laws import LAW
from tests.architecture.plan import Plan, describe, draw

MOST_ROOMS = 28
"""26 of the plan, and `web.access` and `relay.cluster`, which it foresees."""
MOST_ARROWS = 123
"""110 without `web.gateway`, which serves dialects of its own from the same jobs and streams; without LATER; 116
without the sinks that post over HTTP, which have a clock, secrets, notices and the rule for public addresses; 118
without `web.metrics`, which reads histograms of the bus; one is that of the relay to the redactor, through which
everything leaves; one that of the sink that makes log records of records; one that of the journal across the network
to the secret in its URL; and one that of the configuration to exports that are imported when they are first used."""

LATER = {"relay.queue": 8, "relay.attachments": 12, "relay.durable": 8, "relay.cluster": 12}
"""Rooms that came after the plan, and how many arrows each may bring."""

THE_HALL = {
    f"relay.{name}"
    for name in ("clock", "errors", "events", "hints", "notices", "pace", "relay", "secret", "text", "webhooks")
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw()


def test_no_place_is_imported_by_what_it_imports(plan: Plan) -> None:
    assert plan.cycle() == []


def test_the_hall_of_relay_holds_ten_modules_and_no_other_stands_loose(plan: Plan) -> None:
    assert set(plan.loose) == THE_HALL


def test_the_house_has_no_more_rooms_than_fit_in_the_head(plan: Plan) -> None:
    assert len(plan.rooms) <= MOST_ROOMS, describe(plan)


def test_few_arrows_lead_from_one_place_of_the_first_level_to_another(plan: Plan) -> None:
    arrows = plan.storeys()
    assert len([arrow for arrow in arrows if not LATER.keys() & set(arrow)]) <= MOST_ARROWS, describe(plan)
    assert len(arrows) <= MOST_ARROWS + sum(LATER.values()), describe(plan)


@pytest.mark.parametrize("place", sorted(draw().places))
def test_a_place_imports_what_its_law_names_and_nothing_else(place: str) -> None:
    plan = draw()
    beyond = {to: sorted(plan.arrows[place, to]) for to in plan.beneath(place) - LAW.get(place, frozenset())}

    assert beyond == {}, f"an arrow of {place} that its law does not name"
    assert LAW.get(place, frozenset()) - plan.beneath(place) == set(), "the law allows what is not used"


def test_every_law_is_about_a_place_that_there_is(plan: Plan) -> None:
    assert set(LAW) <= set(plan.places)


def test_an_arrow_back_up_would_be_found() -> None:
    known = Plan({"a": frozenset(), "b": frozenset()}, {("a", "b"): frozenset(), ("b", "a"): frozenset()})

    assert set(known.cycle()) == {"a", "b"}
