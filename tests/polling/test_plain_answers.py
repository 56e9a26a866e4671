"""An observation that is plain is passed on at a glance; a closer look would have changed nothing about it."""

import math
from enum import StrEnum
from typing import Any, Final

import pytest
from msgspec.structs import replace

from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.polling.sanitise import _is_plain, _readings, sanitise_answer, sanitise_observation


class Word(StrEnum):
    """An adapter's own class of words."""

    RUNNING = "running"


class Figure(int):
    """An adapter's own class of numbers."""


USUAL: Final = Observation(status="running", raw_status="running", percent=42, source="reported")
FULL: Final = replace(USUAL, raw_percent="0.42", queue_position=0, eta=9.5, log=("a", "b"), log_offset=0, poll_after=3)
ODD: Final[tuple[Any, ...]] = (
    *(Word.RUNNING, Figure(7), True, False, None, b"running", (), [], ("a", 7), ["a"], "", "running", "estimated"),
    *(-1, 0, 100, 101, 2**53 - 1, 2**53, -0.5, 0.5, 2.0**53, math.nan, math.inf, -math.inf),
    *(Result(), Failure(kind="upstream", message="x"), object()),
)


def by_the_closer_look(seen: Observation) -> list[str]:
    """The fields of *seen* that cannot be used as they are."""
    return [name for name, value in _readings(seen) if value is not getattr(seen, name)]


@pytest.mark.parametrize("base", [USUAL, FULL], ids=["usual", "full"])
@pytest.mark.parametrize("field", Observation.__struct_fields__)
def test_a_plain_observation_is_one_whose_every_reading_is_its_field(base: Observation, field: str) -> None:
    for value in ODD:
        seen = replace(base, **{field: value})
        if _is_plain(seen):
            assert (value, by_the_closer_look(seen)) == (value, [])
            assert sanitise_observation(seen) is seen


def test_what_adapters_answer_with_in_most_cases_is_plain() -> None:
    assert [_is_plain(seen) for seen in (USUAL, FULL, Observation(status="queued"))] == [True, True, True]


@pytest.mark.parametrize("field", ["listed", "poll_after"])
def test_an_answer_is_passed_on_with_figures_that_can_be_used(field: str) -> None:
    for value in ODD:
        used = sanitise_answer(replace(Answer(listed=1, tasks={}), **{field: value}))

        assert type(used.listed) is int
        assert 0 <= used.listed < 2**53
        assert used.poll_after is None or (type(used.poll_after) in (int, float) and used.poll_after >= 0)
