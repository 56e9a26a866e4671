"""The life of a job: what follows from what an upstream says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.errors import UsageError
from relay.events import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Log,
    Position,
    Progress,
    Received,
    Record,
    Retrying,
    Stalled,
)
from relay.jobs import Decision, Job, JobState, Patience, decide_fetched, decide_listed, elapsed, evolve, recall
from relay.jobs.observations import Failure, Observation, Result, normalised
from relay.jobs.state import held_off
from relay.wire.record_json import stamp

PATIENCE = Patience(unseen=4, grace=3)
RUNNING = Observation(status="running", raw_status="running", percent=9, source="reported")


def at(seconds: float, event: Event, state: JobState) -> JobState:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return evolve(state, stamp("job_1", state.seq + 1, when, event, Position("e", state.seq + 1)))


DECADE = 10 * 365 * 86_400.0


class Story:
    """A job and its records, lived one answer at a time, as the bus would stamp them."""

    def __init__(self, *, two_step: bool = True) -> None:
        self.records: list[Record] = []
        self.state = JobState()
        self._two_step = two_step
        self.tell(Accepted(upstream="sora", task="task_01"))

    def tell(self, *events: Event) -> tuple[Event, ...]:
        for event in events:
            seq = self.state.seq + 1
            record = stamp("job_1", seq, datetime(2026, 1, 1, tzinfo=UTC), event, Position("e", seq))
            self.records.append(record)
            self.state = evolve(self.state, record)
        return events

    def listed(self, seen: Observation | None) -> tuple[Event, ...]:
        return self.tell(*decide_listed(self.state, seen, PATIENCE, two_step=self._two_step).events)

    def fetched(self, found: Observation | None) -> tuple[Event, ...]:
        return self.tell(*decide_fetched(self.state, found, PATIENCE).events)


def test_every_answer_is_told_whether_or_not_anything_changed() -> None:
    story = Story()

    first = Progress(percent=9, status="running", raw_status="running", source="reported")
    again = replace(first, unchanged=True)
    assert [story.listed(RUNNING) for _ in range(3)] == [(first,), (again,), (again,)]


def test_one_miss_is_not_the_end_and_two_in_a_row_start_the_fetch() -> None:
    story = Story()
    story.listed(RUNNING)

    assert story.listed(None) == (Progress(percent=9, status="running", raw_status="running", listed=False),)
    assert story.listed(None) == (DraftsFetch(attempt=1),)
    assert story.fetched(None) == ()
    assert story.listed(None) == (DraftsFetch(attempt=2),)


def test_a_job_that_reappears_goes_on_where_it_was_and_its_misses_are_forgotten() -> None:
    story = Story()
    story.listed(RUNNING)
    story.listed(None)
    story.listed(None)
    story.fetched(None)

    assert story.listed(RUNNING)[0].type == "progress"
    assert story.listed(None) == (Progress(percent=9, status="running", raw_status="running", listed=False),)


def test_a_job_that_was_never_listed_is_not_taken_for_finished() -> None:
    story = Story()

    first_three = [story.listed(None) for _ in range(3)]

    first = Progress(percent=None, status="queued", listed=False)
    again = replace(first, unchanged=True)
    assert first_three == [(first,), (again,), (again,)]
    assert story.listed(None) == (DraftsFetch(attempt=1),)


def test_a_job_found_nowhere_is_lost_after_the_grace_and_not_before() -> None:
    story = Story()
    story.listed(RUNNING)
    story.listed(None)
    for attempt in (1, 2, 3):
        assert story.listed(None) == (DraftsFetch(attempt=attempt),)
        assert story.fetched(None) == ()
    story.listed(None)

    (end,) = story.fetched(None)

    assert end == Failed(kind="lost", message="the job left the list of pending jobs, and no result has appeared")


def test_without_a_second_step_a_job_that_stays_away_is_lost_too() -> None:
    story = Story(two_step=False)
    story.listed(RUNNING)

    told = [story.listed(None)[0].type for _ in range(6)]

    assert told == ["progress"] * 5 + ["failed"]


def test_a_figure_once_shown_is_never_taken_back() -> None:
    story = Story()
    story.listed(Observation(status="running", percent=80, source="reported"))

    (back,) = story.listed(Observation(status="running", percent=10, source="reported"))
    (silent,) = story.listed(Observation(status="running", percent=None))

    assert back == Progress(percent=80, status="running", source="reported", regressed=True, raw_percent="10")
    assert silent == Progress(percent=80, status="running", unchanged=True)


def test_an_unknown_status_is_told_and_polling_goes_on() -> None:
    (told,) = Story().listed(Observation(status=normalised("renderring"), raw_status="renderring"))

    assert told == Progress(percent=None, status="unknown", raw_status="renderring")


def test_the_upstreams_log_comes_before_what_follows_from_the_answer() -> None:
    told = Story().listed(Observation(status="running", log=("loading", "step 1")))

    assert told == (Log(line="loading"), Log(line="step 1"), Progress(percent=None, status="running"))


def test_a_log_that_comes_whole_with_every_answer_is_told_once() -> None:
    story = Story()
    first = story.listed(Observation(status="running", log=("loading", "step 1"), log_offset=0))
    again = story.listed(Observation(status="running", log=("loading", "step 1"), log_offset=0))
    story.state = recall(story.records)
    more = story.listed(Observation(status="running", log=("step 1", "step 2", "step 3"), log_offset=1))

    progress = Progress(percent=None, status="running")
    assert first == (Log(line="loading", number=1), Log(line="step 1", number=2), progress)
    assert again == (replace(progress, unchanged=True),)
    assert more == (Log(line="step 2", number=3), Log(line="step 3", number=4), replace(progress, unchanged=True))


@pytest.mark.parametrize("offset", [None, 0])
def test_of_a_very_long_log_the_newest_lines_are_told_and_none_of_the_others_later(offset: int | None) -> None:
    story = Story()
    lines = tuple(f"step {number}" for number in range(1, 2_001))
    told = story.listed(Observation(status="running", log=lines, log_offset=offset))
    later = story.listed(
        Observation(status="running", log=(*lines, "last") if offset == 0 else ("last",), log_offset=offset)
    )

    assert [event.line for event in told if isinstance(event, Log)] == list(lines[-500:])
    assert [event.line for event in later if isinstance(event, Log)] == ["last"]


def test_a_warning_is_told_once_a_job_also_after_a_restart_and_before_the_end() -> None:
    story = Story()
    odd = replace(RUNNING, warning="listed twice")
    first, again = story.listed(odd), story.listed(odd)
    story.state = recall(story.records)
    after_restart = story.listed(odd)
    other = story.fetched(Observation(status="succeeded", result=Result(urls=("https://a/b",)), warning="two drafts"))

    assert [event for event in (*first, *again, *after_restart) if isinstance(event, Log)] == [
        Log(line="listed twice", severity="warning")
    ]
    assert other == (Log(line="two drafts", severity="warning"), Done(urls=("https://a/b",)))


def test_an_upstream_that_makes_up_warnings_is_listened_to_for_a_while() -> None:
    story = Story()
    told = [story.listed(replace(RUNNING, warning=f"odd {number}")) for number in range(20)]

    assert [event.line for events in told for event in events if isinstance(event, Log)] == [
        f"odd {number}" for number in range(8)
    ]


def test_the_last_lines_of_a_log_come_before_the_end() -> None:
    story = Story()
    story.listed(Observation(status="running", log=("loading",), log_offset=0))
    end = story.listed(
        Observation(status="succeeded", log=("loading", "saved"), log_offset=0, result=Result(urls=("https://a/b",)))
    )

    assert end == (Log(line="saved", number=2), Done(urls=("https://a/b",)))


def test_a_job_still_listed_as_finished_has_its_result_fetched_at_once() -> None:
    story = Story()

    assert story.listed(Observation(status="succeeded")) == (DraftsFetch(attempt=1, listed=True),)
    assert story.fetched(Observation(status="succeeded", result=Result(urls=("https://a/b",)))) == (
        Done(urls=("https://a/b",)),
    )


@pytest.mark.parametrize(
    ("seen", "end"),
    [
        (
            Observation(status="failed", failure=Failure(kind="policy", message="no")),
            Failed(kind="policy", message="no"),
        ),
        (
            Observation(status="cancelled", failure=Failure(kind="cancelled", message="by quota")),
            Cancelled(by="upstream", message="by quota"),
        ),
        (
            Observation(status="succeeded", result=Result(urls=())),
            Failed(kind="malformed", message="the upstream says it is finished, but names no file"),
        ),
        (
            Observation(status="succeeded", result=Result(urls=("https://a/" + "b" * 9_000,))),
            Failed(
                kind="malformed",
                message="the result is over the limits of 512 addresses of 8,192 characters, 176 KiB in all",
            ),
        ),
    ],
)
def test_an_answer_that_ends_the_job_is_told_as_what_it_is(seen: Observation, end: Event) -> None:
    assert Story().listed(seen) == (end,)
    assert Story().fetched(seen) == (end,)


LISTED = JobState(status="running", percent=9, seen=True)
MISSED = JobState(status="running", percent=9, seen=True, misses=1)
SUCCEEDED = Observation(status="succeeded")
AT_9 = Progress(percent=9, status="running", raw_status="running", source="reported")


@pytest.mark.parametrize(
    ("state", "seen", "may_fetch", "decision"),
    [
        (LISTED, RUNNING, True, Decision((AT_9,))),
        (LISTED, replace(RUNNING, eta=7.0), True, Decision((replace(AT_9, eta=7.0),), eta=7.0)),
        (LISTED, None, True, Decision((Progress(percent=9, status="running", listed=False),))),
        (MISSED, None, True, Decision((DraftsFetch(attempt=1),), fetch=True)),
        (MISSED, None, False, Decision((Progress(percent=9, status="running", listed=False),))),
        (LISTED, SUCCEEDED, True, Decision((DraftsFetch(attempt=1, listed=True),), fetch=True)),
        (LISTED, SUCCEEDED, False, Decision((Progress(percent=9, status="succeeded"),))),
    ],
)
def test_a_decision_names_the_events_whether_the_result_is_fetched_and_when_the_job_should_end(
    state: JobState, seen: Observation | None, may_fetch: bool, decision: Decision
) -> None:
    assert decide_listed(state, seen, PATIENCE, two_step=True, may_fetch=may_fetch) == decision


@pytest.mark.parametrize("id", ["", "a b", "job\n", "x" * 129, "é", "../x"])
def test_a_job_id_that_could_not_be_printed_or_routed_is_refused(id: str) -> None:
    with pytest.raises(UsageError, match="a job id is 1 to 128"):
        Job(id)


def test_an_owner_stays_as_it_was_at_the_beginning_and_is_not_shown() -> None:
    job = Job("job_1", owner="ann")

    assert (job.owner, Job("job_2").owner) == ("ann", "")
    with pytest.raises(AttributeError):
        job.owner = "bob"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert "ann" not in f"{job} {job.snapshot()}"


@pytest.mark.parametrize("owner", ["jwt:Zoë/7", "key:a b", "\u65e5" * 256, "line\nand \u202e more"])
def test_an_owner_is_any_text_that_a_file_can_hold(owner: str) -> None:
    assert Job("job_1", owner=owner).owner == owner


@pytest.mark.parametrize("owner", ["x" * 257, "ann\0", "caf\udce9", "\ud83d\ude00"])
def test_what_no_file_can_hold_is_no_owner_and_is_not_repeated(owner: str) -> None:
    with pytest.raises(UsageError, match="an owner is a text of at most 256 characters") as refused:
        Job("job_1", owner=owner)
    assert owner not in str(refused.value)


def observations() -> st.SearchStrategy[Observation | None]:
    return st.none() | st.builds(
        Observation,
        status=st.sampled_from(["queued", "running", "succeeded", "unknown"]),
        percent=st.none() | st.integers(0, 100),
        log=st.sampled_from([(), ("a line",)]),
        result=st.none() | st.builds(Result, urls=st.sampled_from([(), ("https://a/b",)])),
        failure=st.none() | st.builds(Failure, kind=st.sampled_from(["upstream", "cancelled"]), message=st.just("no")),
    )


@given(st.lists(st.tuples(observations(), observations()), max_size=60), st.booleans())
def test_whatever_is_observed_the_story_has_no_holes_and_at_most_one_end(
    answers: Sequence[tuple[Observation | None, Observation | None]], two_step: bool
) -> None:
    story = Story(two_step=two_step)
    for listed, fetched in answers:
        if story.state.terminal is not None:
            break
        told = story.listed(listed)
        assert told, "an answer that leads to no event would be seen by nobody"
        if isinstance(told[-1], DraftsFetch):
            story.fetched(fetched)

    terminals = [record.seq for record in story.records if record.terminal]
    shown = [record.event.percent for record in story.records if isinstance(record.event, Progress)]
    figures = [percent for percent in shown if percent is not None]
    assert [record.seq for record in story.records] == list(range(1, len(story.records) + 1))
    assert terminals in ([], [len(story.records)])
    assert figures == sorted(figures)
    assert recall(story.records) == story.state


@given(st.integers(0, 200))
def test_a_job_that_stays_away_always_comes_to_an_end(answers_before: int) -> None:
    story = Story()
    for _ in range(answers_before % 7):
        story.listed(RUNNING)
    polls = 0
    while story.state.terminal is None:
        polls += 1
        if isinstance(story.listed(None)[-1], DraftsFetch):
            story.fetched(None)

    assert polls <= PATIENCE.unseen + PATIENCE.grace + 1


class Timed(Story):
    """A story whose answers come 10 seconds apart."""

    def tell(self, *events: Event) -> tuple[Event, ...]:
        for event in events:
            seq = self.state.seq + 1
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=10 * self.state.attempt)
            record = stamp("job_1", seq, at, event, Position("e", seq))
            self.records.append(record)
            self.state = evolve(self.state, record)
        return events

    def listed(self, seen: Observation | None) -> tuple[Event, ...]:
        self.tell(Checking(attempt=self.state.attempt + 1, of=600), Received(listed=1, seconds=0.1))
        return super().listed(seen)


def at_percent(percent: int, **more: Any) -> Observation:
    return Observation(status="running", percent=percent, source="reported", **more)


def test_a_job_that_stands_still_beyond_its_own_rhythm_is_told_once_until_it_moves_again() -> None:
    story = Timed()
    for percent in (1, 2, 3, 4):
        story.listed(at_percent(percent))

    told = [event for _ in range(30) for event in story.listed(at_percent(4)) if isinstance(event, Stalled)]
    story.listed(at_percent(5))
    again = [event for _ in range(200) for event in story.listed(at_percent(5)) if isinstance(event, Stalled)]

    assert told == [Stalled(seconds=130.0)]
    assert again == [Stalled(seconds=1_250.0)], "a job that has waited long before is given longer"


def test_a_job_that_waits_in_a_queue_without_a_word_is_not_stalled() -> None:
    story = Timed()

    told = [event.type for _ in range(200) for event in story.listed(Observation(status="queued"))]

    assert set(told) == {"progress"}


def test_each_status_has_a_rhythm_of_its_own() -> None:
    story = Timed()
    for percent in (1, 2, 3, 4):
        story.listed(at_percent(percent))

    told = [event for _ in range(200) for event in story.listed(Observation(status="queued", percent=4))]

    assert not any(isinstance(event, Stalled) for event in told)


def test_the_time_left_is_a_range_from_the_pace_seen_so_far_and_null_before() -> None:
    story = Timed()
    told = [event for percent in (10, 30, 40) for event in story.listed(at_percent(percent))]

    assert [(event.eta_low, event.eta, event.eta_high) for event in told if isinstance(event, Progress)] == [
        (None, None, None),
        (None, None, None),
        (30.0, 40.0, 60.0),
    ]
    assert told[-1].text == "40% (running), about 30 to 60 s left"


def test_what_the_upstream_says_of_the_time_left_comes_first() -> None:
    story = Timed()
    for percent in (10, 30, 40):
        story.listed(at_percent(percent))

    (told,) = story.listed(at_percent(50, eta=7.0))

    assert isinstance(told, Progress)
    assert (told.eta_low, told.eta, told.eta_high) == (None, 7.0, None)


@pytest.mark.parametrize(("percents", "told"), [((10, 30, 40), (30.0, 40.0, 60.0)), ((10, 50, 60), (None, None, None))])
def test_a_range_that_is_wider_than_one_to_three_says_nothing_and_is_not_told(
    percents: tuple[int, ...], told: tuple[float | None, ...]
) -> None:
    story = Timed()
    *_, last = [event for percent in percents for event in story.listed(at_percent(percent))]

    assert isinstance(last, Progress)
    assert (last.eta_low, last.eta, last.eta_high) == told


@pytest.mark.parametrize(("allowed", "eta"), [(40.0, 40.0), (39.0, None), (-5.0, None)])
@pytest.mark.parametrize("own", [False, True])
def test_an_end_beyond_the_deadline_is_not_told(allowed: float, eta: float | None, own: bool) -> None:
    story = Timed()
    for percent in (10, 30):
        story.listed(at_percent(percent))
    seen = at_percent(40, eta=40.0) if own else at_percent(40)
    story.tell(Checking(attempt=story.state.attempt + 1, of=600), Received(listed=1, seconds=0.1))

    *_, told = decide_listed(story.state, seen, PATIENCE, two_step=True, left=allowed).events

    assert isinstance(told, Progress)
    assert told.eta == eta
    assert own or (told.eta_low is None) is (eta is None)


@pytest.mark.parametrize("jump", [DECADE, -DECADE, 2 * 86_400.0, -1.0])
def test_a_clock_that_was_set_adds_no_time_to_a_story(jump: float) -> None:
    state = JobState()
    for seconds in (0.0, 10.0, 20.0 + jump, 30.0 + jump, 31.0):
        state = at(seconds, Log(line="a line"), state)

    lived = {DECADE: 20.0, -DECADE: 20.0, 2 * 86_400.0: 20.0, -1.0: 31.0}[jump]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert elapsed(state, now + timedelta(seconds=31.0)) == lived
    assert elapsed(state, now + timedelta(seconds=41.0)) == lived + 10.0
    assert elapsed(state, now + timedelta(seconds=41.0 + DECADE)) == lived
    assert elapsed(state, now - timedelta(seconds=DECADE)) == lived


def test_the_time_a_relay_was_down_counts_up_to_a_day() -> None:
    state = at(0.0, Accepted(upstream="sora", task="t"), JobState())
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert elapsed(state, now + timedelta(hours=23)) == 23 * 3_600
    assert elapsed(state, now + timedelta(hours=25)) == 0.0


def test_a_clock_that_was_set_neither_stalls_a_job_nor_stretches_its_estimate() -> None:
    story = Timed()
    for percent in (10, 20, 30):
        story.listed(at_percent(percent))
    for seconds in (DECADE, DECADE + 10.0):
        story.state = at(seconds, Received(listed=1, seconds=0.1), story.state)

    *_, told = decide_listed(story.state, at_percent(40), PATIENCE, two_step=True).events

    assert isinstance(told, Progress)
    assert told.eta is not None
    assert told.eta <= 70.0


def test_a_state_that_was_kept_before_it_had_a_clock_of_its_own_is_read() -> None:
    state = msgspec.json.decode(
        b'{"seq":3,"started":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:10:00Z",'
        b'"entered":"2026-01-01T00:05:00Z","misses":1}',
        type=JobState,
    )

    assert elapsed(state, datetime(2026, 1, 1, 0, 11, tzinfo=UTC)) == 660.0


def patient(seconds: Sequence[float], patience: Patience, *, two_step: bool) -> float | None:
    """When a job that was seen at 0 is lost, with answers without it at these *seconds*."""
    state = at(0.0, Progress(percent=9, status="running"), JobState())
    for now in seconds:
        state = at(now, Checking(attempt=state.attempt + 1, of=9_999), state)
        for event in decide_listed(state, None, patience, two_step=two_step).events:
            state = at(now, event, state)
        if state.terminal is None and state.looking:
            for event in decide_fetched(state, None, patience).events:
                state = at(now, event, state)
        if state.terminal is not None:
            return now
    return None


@given(st.lists(st.floats(0.2, 100), min_size=1, max_size=400), st.booleans())
def test_however_the_answers_come_a_job_is_lost_after_a_time_and_a_number_of_them(
    gaps: list[float], two_step: bool
) -> None:
    patience = Patience(grace=24, grace_seconds=60.0, settle_seconds=2.0)
    times = [sum(gaps[: number + 1]) for number in range(len(gaps))]

    lost = patient(times, patience, two_step=two_step)

    if lost is not None:
        assert lost - times[0] >= 60.0 - 1e-6
        assert times.index(lost) >= 24
    else:
        assert len(times) < 28 or sum(min(gap, 30.0) for gap in gaps[1:]) < 63.0 + 30.0


def test_a_failed_poll_puts_off_the_next_one_until_it_begins() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    state = at(0.0, Accepted(upstream="u", task="t"), JobState())
    assert held_off(state, now) == 0.0

    failed = Retrying(kind="rate-limit", message="slow down", attempt=1, next_in=60.0)
    state = at(10.0, failed, at(10.0, Checking(attempt=1, of=9), state))
    assert held_off(state, now + timedelta(seconds=10)) == 60.0
    assert held_off(state, now + timedelta(seconds=30)) == 40.0
    assert held_off(state, now + timedelta(seconds=99)) == 0.0
    assert held_off(state, now + timedelta(days=3)) == 60.0, "a clock that was set says nothing about the time between"

    assert held_off(at(70.0, Checking(attempt=2, of=9), state), now + timedelta(seconds=30)) == 0.0
