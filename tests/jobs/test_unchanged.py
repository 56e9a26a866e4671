"""Which progress is news, and which repeats what is known of the job: its level is `debug`."""

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import Accepted, DraftsFetch, Event, Level, Log, Position, Progress, Record, Retrying, Stalled
from relay.jobs import JobState, Patience, decide_listed, evolve
from relay.jobs.observations import Observation
from relay.wire.record_json import read_record, stamp

AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE: Final = Patience(unseen=4, grace=50)

NINE: Final = Observation(status="running", raw_status="running", percent=9)
FAILED_POLL: Final = Retrying(kind="network", message="reset", attempt=1, next_in=5.0)
FETCHING: Final = DraftsFetch(attempt=1, listed=True)


class Story:
    """A job, lived one answer at a time, as the bus would stamp it."""

    def __init__(self) -> None:
        self.state = JobState()
        self.records: list[Record] = []
        self.publish(Accepted(upstream="u", task="t"))

    def publish(self, *events: Event) -> None:
        for event in events:
            seq = self.state.seq + 1
            stamped = stamp("job_1", seq, AT, event, Position("e", seq))
            # The journal holds the bytes alone, so the level of a record is in these.
            record = read_record(stamped.json, stamped.position)
            self.records.append(record)
            self.state = evolve(self.state, record)

    def polled(self, seen: Observation | None) -> Level:
        """The level of the progress that one answer leads to."""
        self.publish(*decide_listed(self.state, seen, PATIENCE, two_step=False).events)
        (progress,) = [record.event for record in self.records if isinstance(record.event, Progress)][-1:]
        return progress.level


def levels(*answers: Observation | None) -> list[Level]:
    story = Story()
    return [story.polled(seen) for seen in answers]


def seen(**changes: object) -> Observation:
    return Observation(**{"status": "running", "raw_status": "running", "percent": 9, **changes})  # type: ignore[arg-type]


def test_the_first_progress_is_info_and_what_repeats_it_is_debug() -> None:
    assert levels(NINE, NINE, NINE) == ["info", "debug", "debug"]


@pytest.mark.parametrize(
    "other",
    [
        seen(percent=10),
        seen(status="queued", raw_status="running"),
        seen(raw_status="rendering"),
        seen(queue_position=3),
    ],
    ids=["percent", "status", "word of the upstream", "queue place"],
)
def test_a_change_of_what_the_operator_reads_is_info_once(other: Observation) -> None:
    assert levels(NINE, other, other) == ["info", "info", "debug"]


@pytest.mark.parametrize("other", [seen(eta=30.0), seen(source="estimated")], ids=["time left", "origin of the figure"])
def test_another_estimate_is_no_news(other: Observation) -> None:
    assert levels(NINE, other) == ["info", "debug"]


def test_leaving_the_list_and_coming_back_are_each_info_once() -> None:
    assert levels(NINE, None, None, NINE, NINE) == ["info", "info", "debug", "info", "debug"]


def test_a_job_that_is_not_listed_from_the_start_says_so_once() -> None:
    assert levels(None, None, None, NINE) == ["info", "debug", "debug", "info"]


def test_an_upstream_that_goes_back_and_forth_is_reported_once_until_the_job_moves() -> None:
    back = seen(percent=4)
    answers = (NINE, back, NINE, back, back, seen(percent=12), back)
    assert levels(*answers) == ["info", "info", "debug", "debug", "debug", "info", "info"]


@pytest.mark.parametrize("between", [FAILED_POLL, FETCHING], ids=["a failed poll", "a look for the result"])
def test_the_first_answer_behind_trouble_is_info_so_that_no_text_says_that_it_goes_on(between: Event) -> None:
    story = Story()
    story.polled(NINE)
    story.publish(between)

    assert [story.polled(NINE), story.polled(NINE)] == ["info", "debug"]
    assert story.state.text == "9% (running)"


@pytest.mark.parametrize(
    "between", [Stalled(seconds=60), Log(line="step 4")], ids=["a stall", "a line of the upstream's log"]
)
def test_what_remains_true_while_nothing_changes_makes_no_news_of_a_repeat(between: Event) -> None:
    story = Story()
    story.polled(NINE)
    story.publish(between)

    assert story.polled(NINE) == "debug"
    assert story.state.text == between.text


_ANSWERS = st.lists(
    st.one_of(
        st.none(),
        st.just(FAILED_POLL),
        st.builds(
            Observation,
            status=st.sampled_from(["queued", "running"]),
            raw_status=st.sampled_from([None, "running", "rendering"]),
            percent=st.sampled_from([None, 8, 9]),
            queue_position=st.sampled_from([None, 1]),
            eta=st.sampled_from([None, 10.0]),
        ),
    ),
    max_size=12,
)


@given(_ANSWERS)
def test_an_unchanged_progress_says_nothing_that_the_last_line_above_debug_does_not(
    answers: list[Observation | Retrying | None],
) -> None:
    story = Story()
    for answer in answers:
        if isinstance(answer, Retrying):
            story.publish(answer)
        else:
            story.polled(answer)

    known: Event | None = None
    for record in story.records:
        event = record.event
        if isinstance(event, Progress) and event.unchanged:
            assert isinstance(known, Progress)
            assert _news(event) == _news(known)
        elif event.level != "debug" and not isinstance(event, Stalled):
            known = event


def _news(event: Progress) -> tuple[object, ...]:
    return event.percent, event.status, event.raw_status, event.queue_position, event.listed
