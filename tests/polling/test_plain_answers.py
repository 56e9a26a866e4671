"""An observation that is plain is passed on at a glance; a closer look would have changed nothing about it."""

from enum import StrEnum
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.polling.sanitise import _is_plain, _readings, sanitise_answer, sanitise_observation


class Word(StrEnum):
    """An adapter's own class of words."""

    RUNNING = "running"


class Figure(int):
    """An adapter's own class of numbers."""


_odd: Final[st.SearchStrategy[Any]] = st.sampled_from(
    (Word.RUNNING, Figure(7), True, -1, 101, 1.5, float("nan"), "", "running", b"running", (), [], ("a",), ["a"], 2**60)
)


def _fields(**plain: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.none() | _odd | usual for name, usual in plain.items()})


_observations: Final = st.builds(
    lambda status, fields: Observation(status=status, **fields),
    st.sampled_from(("queued", "running", "succeeded", "unknown")) | _odd,
    _fields(
        raw_status=st.text(max_size=3),
        percent=st.integers(0, 100),
        source=st.sampled_from(("reported", "parsed", "estimated")),
        raw_percent=st.text(max_size=3),
        queue_position=st.integers(0, 3),
        eta=st.floats(0, 9),
        log=st.just(()),
        log_offset=st.integers(0, 3),
        result=st.just(Result()),
        failure=st.just(Failure(kind="upstream", message="x")),
        poll_after=st.floats(0, 9),
        warning=st.text(max_size=3),
    ),
)


@given(seen=_observations)
@example(seen=Observation(status="running", raw_status="running", percent=42, source="reported"))
def test_a_plain_observation_is_one_whose_every_reading_is_its_field(seen: Observation) -> None:
    if _is_plain(seen):
        assert [name for name, value in _readings(seen) if value is not getattr(seen, name)] == []
        assert sanitise_observation(seen) is seen


def test_what_adapters_answer_with_in_most_cases_is_plain() -> None:
    assert _is_plain(Observation(status="running", raw_status="running", percent=42, source="reported"))
    assert _is_plain(Observation(status="queued"))


@given(listed=_odd | st.integers(0, 3), poll_after=st.none() | _odd)
def test_an_answer_is_passed_on_as_it_is_only_with_figures_that_can_be_used(listed: Any, poll_after: Any) -> None:
    answer = Answer(listed=listed, tasks={}, poll_after=poll_after)
    used = sanitise_answer(answer)

    assert type(used.listed) is int
    assert 0 <= used.listed < 2**53
    assert used.poll_after is None or type(used.poll_after) in (int, float)
    assert (used is answer) == (used == answer and type(listed) is int and type(poll_after) is type(used.poll_after))
