"""A job's own rhythm, and how long it will take by how fast it went."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relay.jobs.eta import Left, Mark, left, marked
from relay.jobs.rhythm import Rhythm

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def lived(*answers: bool) -> Rhythm:
    """A rhythm after answers that brought something new, or did not."""
    rhythm = Rhythm(since=START)
    for number, new in enumerate(answers):
        rhythm = rhythm.moved(at(number)) if new else rhythm.stayed()
    return rhythm


def answers_until_overdue(rhythm: Rhythm) -> int | None:
    for answers in range(1_000):
        if rhythm.overdue:
            return answers
        rhythm = rhythm.stayed()
    return None


def test_a_job_that_moves_every_answer_is_overdue_after_twelve_without() -> None:
    assert answers_until_overdue(lived(True, True, True)) == 13


def test_a_slow_job_is_given_four_times_its_longest_wait() -> None:
    slow = lived(*[False] * 9, True, True, True)

    assert slow.gaps == (10, 1, 1)
    assert answers_until_overdue(slow) == 41


def test_nothing_is_overdue_while_there_is_no_rhythm() -> None:
    assert answers_until_overdue(lived(True, True)) is None


def test_a_line_of_the_log_is_a_sign_of_life_and_no_step() -> None:
    rhythm = lived(True, True, True, False, False).alive(at(9))

    assert (rhythm.still, rhythm.gaps, rhythm.since) == (0, (1, 1, 1), at(9))


def steady(*percents: int, every: float = 10.0) -> tuple[Mark, ...]:
    marks: tuple[Mark, ...] = ()
    for number, percent in enumerate(percents):
        marks = marked(marks, at(number * every), percent)
    return marks


def test_a_steady_job_has_a_narrow_range() -> None:
    assert left(steady(10, 20, 30), at(20)) == Left(likely=70.0, low=70.0, high=70.0)


def test_an_uneven_job_has_a_range_from_its_quickest_to_its_slowest_pace() -> None:
    assert left(steady(10, 30, 40), at(20)) == Left(likely=40.0, low=30.0, high=60.0)


def test_standing_still_makes_it_later_and_not_sooner() -> None:
    marks = steady(10, 20, 30)
    seen = [left(marks, at(seconds)) for seconds in (20, 40, 80, 160)]

    assert [found.high for found in seen if found] == [70.0, 140.0, 280.0, 560.0]
    assert [found.low for found in seen if found] == [70.0] * 4


def test_nothing_is_said_before_two_steps_were_seen_or_at_the_end() -> None:
    assert left((), START) is None
    assert left(steady(10, 20), at(10)) is None
    assert left(steady(10, 50, 100), at(20)) is None


def test_a_clock_that_goes_back_begins_the_marks_anew() -> None:
    assert marked(steady(10, 20, 30), at(-3_600), 40) == ((at(-3_600), 40),)


@given(st.lists(st.tuples(st.integers(-7_200, 7_200), st.integers(0, 100)), max_size=40), st.integers(-7_200, 7_200))
def test_whatever_the_clock_does_a_range_is_in_order_and_not_negative(moves: list[tuple[int, int]], last: int) -> None:
    marks: tuple[Mark, ...] = ()
    now = 0
    for jump, percent in moves:
        now += jump
        if not marks or percent > marks[-1][1]:
            marks = marked(marks, at(now), percent)
        found = left(marks, at(now + last))
        assert found is None or 0 <= found.low <= found.likely <= found.high
