"""The fold that is written for speed makes of every story what the plain one makes of it."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from relay.events import EVENTS, Event, Position, Progress
from relay.jobs import JobState, evolve
from relay.wire.record_json import stamped
from tests.jobs.any_events import BY_KIND, any_event
from tests.jobs.plain_fold import plainly_evolved

START: Final = datetime(2026, 1, 1, tzinfo=UTC)

_passed: Final = st.one_of(st.floats(0, 90), st.sampled_from((-3600.0, 0.0, 30.0, 86_400.0, 86_401.0)))
_few: Final = st.builds(
    Progress,
    percent=st.none() | st.integers(0, 3),
    status=st.sampled_from(("queued", "running")),
    queue_position=st.none() | st.integers(0, 1),
    listed=st.booleans(),
    regressed=st.booleans(),
)
"""Progress of which the next one is often alike, or close."""

_stories: Final = st.lists(st.tuples(_passed, st.one_of(_few, any_event)), max_size=40)


@given(story=_stories)
def test_both_folds_agree_after_every_record(story: list[tuple[float, Event]]) -> None:
    state, at = JobState(), START
    for seq, (passed, event) in enumerate(story, 1):
        at += timedelta(seconds=passed)
        record, text = stamped("job_1", seq, at, event, Position("e", 7 * seq))
        before, plain = state, plainly_evolved(state, record)
        kept = JobState(**{name: getattr(before, name) for name in before.__struct_fields__})
        state = evolve(before, record, text)

        assert state == plain == evolve(before, record)
        assert before == kept


def test_a_law_of_all_events_has_events_of_every_kind() -> None:
    assert set(BY_KIND) == set(EVENTS)
