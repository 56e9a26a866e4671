"""When to ask next, by pace, by budget and after failures; whether an account may be asked at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UpstreamError, UsageError
from relay.pace import MAX_DELAY, MIN_DELAY, Pace, clamp_delay
from relay.polling.breaker import AUTH_PROBE, Breaker, back_off
from relay.polling.schedule import next_poll, preferred_interval
from relay.polling.token_bucket import TokenBucket

SERVER = UpstreamError("server", "the upstream answered 503")
ADAPTIVE = Pace(interval=4.0, adaptive=True, fastest=1.0, slowest=20.0)

chances = st.floats(0, 1)


def test_without_adaptation_the_interval_is_kept_whatever_the_job_does() -> None:
    wishes = {
        preferred_interval(Pace(interval=3.0), flat=flat, percent=percent, eta=1.0)
        for flat in (0, 50)
        for percent in (1, 99)
    }

    assert wishes == {3.0}


def test_a_job_that_moves_is_asked_quicker_and_one_that_is_flat_slower() -> None:
    assert [preferred_interval(ADAPTIVE, flat=flat, percent=40, eta=None) for flat in (0, 1, 4, 5, 6, 7, 8, 100)] == [
        2.0,
        4.0,
        4.0,
        6.0,
        9.0,
        13.5,
        20.0,
        20.0,
    ]


@pytest.mark.parametrize(("percent", "eta"), [(90, None), (100, None), (40, 4.0), (None, 0.5)])
def test_a_job_that_is_nearly_done_is_asked_quickest(percent: int | None, eta: float | None) -> None:
    assert preferred_interval(ADAPTIVE, flat=50, percent=percent, eta=eta) == 1.0


@given(st.integers(0, 10**6), st.none() | st.integers(0, 100), st.none() | st.floats(0, 1e9), chances)
def test_no_wish_leaves_its_bounds(flat: int, percent: int | None, eta: float | None, chance: float) -> None:
    wish = preferred_interval(ADAPTIVE, flat=flat, percent=percent, eta=eta)

    assert ADAPTIVE.fastest <= wish <= ADAPTIVE.slowest
    assert next_poll(ADAPTIVE, wish, None, chance) == wish


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
def test_jitter_varies_the_interval_in_both_directions(chance: float, seconds: float) -> None:
    assert next_poll(Pace(interval=10.0, jitter=0.1), 10.0, None, chance) == pytest.approx(seconds)


@pytest.mark.parametrize(("asked", "kept"), [(0.0, 0.2), (0.05, 0.2), (1.0, 1.0), (60.0, 60.0), (86_400.0, 60.0)])
def test_what_the_upstream_asks_for_comes_first_within_bounds(asked: float, kept: float) -> None:
    assert next_poll(Pace(interval=2.5), 2.5, asked, 0.0) == kept


@given(st.floats(0, 1e6), chances)
def test_nobody_is_asked_sooner_than_it_wants(asked: float, chance: float) -> None:
    assert next_poll(Pace(jitter=0.1), 2.5, asked, chance) >= min(max(asked, MIN_DELAY), MAX_DELAY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"deadline": -1},
        {"jitter": 1.0},
        {"adaptive": True, "interval": 30.0},
        {"adaptive": True, "fastest": 5.0},
        {"concurrency": 0},
        {"requests_per_second": -1.0},
    ],
)
def test_a_pace_that_holds_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Pace(**wrong)  # type: ignore[arg-type]


def test_the_first_try_again_comes_an_interval_later_and_then_anywhere_below_a_ceiling_that_doubles() -> None:
    pace = Pace(interval=2.5)

    assert [back_off(pace, nth, SERVER, 0.0) for nth in range(1, 8)] == [2.5] * 7
    assert [back_off(pace, nth, SERVER, 1.0) for nth in range(1, 8)] == [2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


@given(st.integers(1, 10**6), chances, st.none() | st.floats(0, 1e9), st.sampled_from([0.2, 2.5, 60.0, 300.0]))
def test_no_try_again_is_sooner_than_an_interval(
    in_a_row: int, chance: float, retry_after: float | None, interval: float
) -> None:
    delay = back_off(Pace(interval=interval), in_a_row, UpstreamError("server", "", retry_after=retry_after), chance)

    assert interval <= delay <= max(interval, MAX_DELAY)


def test_a_token_that_was_refused_is_tried_again_slowly() -> None:
    refused = UpstreamError("auth", "the upstream answered 401", retry_after=1.0)

    assert back_off(Pace(interval=2.5), 1, refused, 0.5) == AUTH_PROBE


def fail(breaker: Breaker, until: float) -> bool:
    """One failure, as the poller reacts to it."""
    opens = breaker.counts()
    if opens:
        breaker.open(until)
    return opens


def test_a_breaker_opens_after_failures_in_a_row_and_an_answer_starts_the_count_anew() -> None:
    breaker = Breaker(threshold=3)

    told = [fail(breaker, 10.0), fail(breaker, 10.0), breaker.close(), fail(breaker, 10.0), fail(breaker, 10.0)]

    assert told == [False] * 5
    assert breaker.allows(0.0)
    assert fail(breaker, 10.0)
    assert not breaker.allows(9.9)


def test_an_open_breaker_lets_one_try_and_what_comes_of_it_decides() -> None:
    breaker = Breaker(threshold=1)
    fail(breaker, 10.0)

    breaker.try_out()
    assert not breaker.allows(10.0), "a second request while the first is under way"
    assert fail(breaker, 30.0)
    assert (breaker.openings, breaker.allows(29.0), breaker.allows(30.0)) == (2, False, True)

    breaker.try_out()
    assert breaker.close()
    assert (breaker.state, breaker.openings, breaker.allows(30.0)) == ("closed", 0, True)


def test_answers_to_earlier_questions_neither_close_nor_reopen_a_breaker() -> None:
    breaker = Breaker(threshold=1)
    fail(breaker, 10.0)

    assert (breaker.close(), fail(breaker, 99.0)) == (False, False)
    assert (breaker.until, breaker.openings, breaker.state) == (10.0, 1, "open")


def test_a_new_token_lets_one_try_at_once() -> None:
    breaker = Breaker(threshold=1)
    fail(breaker, 30.0)
    breaker.try_now(4.0)

    assert breaker.allows(4.0)


def test_a_budget_is_spent_by_the_second_and_not_saved_up() -> None:
    budget = TokenBucket(10.0)
    spent = [budget.take(0.0), budget.take(0.0), budget.take(0.1), budget.take(0.1)]

    assert spent == [True, False, True, False]
    assert budget.ready_at(0.15) == pytest.approx(0.2)
    assert [budget.take(3_600.0), budget.take(3_600.0)] == [True, False], "an hour of sleep is no hour's worth of polls"


def test_no_budget_is_no_limit() -> None:
    assert all(TokenBucket(0.0).take(0.0) for _ in range(1_000))


@given(st.lists(st.floats(0, 0.5), max_size=200), st.sampled_from([1.0, 7.0, 100.0]))
def test_whenever_it_is_asked_a_budget_gives_no_more_than_its_rate_and_one_burst(
    waits: list[float], rate: float
) -> None:
    budget, now, taken = TokenBucket(rate), 0.0, 0
    for wait in waits:
        now += wait
        while budget.take(now):
            taken += 1

    assert taken <= now * rate + max(1.0, rate / 10) + 1e-6


# What an operator asks for comes before what an upstream asks for


@pytest.mark.parametrize(("asked", "kept"), [(0.2, 30.0), (29.0, 30.0), (45.0, 45.0), (86_400.0, 60.0)])
def test_an_upstream_does_not_shorten_an_interval_that_was_made_longer(asked: float, kept: float) -> None:
    assert next_poll(Pace(interval=30.0, floor=30.0), 30.0, asked, 0.0) == kept


@pytest.mark.parametrize("absurd", [float("nan"), float("inf"), -5.0, 10**400])
def test_an_absurd_wait_is_within_the_bounds(absurd: float) -> None:
    assert MIN_DELAY <= clamp_delay(absurd) <= MAX_DELAY


@given(st.floats(60.5, 86_400), st.integers(1, 40), chances, st.none() | st.floats(0, 1e6))
def test_after_a_failure_a_long_interval_is_not_shortened(
    interval: float, in_a_row: int, chance: float, retry_after: float | None
) -> None:
    error = UpstreamError("server", "", retry_after=retry_after)

    assert back_off(Pace(interval=interval), in_a_row, error, chance) == pytest.approx(interval, abs=0.001)


def test_requests_that_nobody_asked_for_are_made_up_for() -> None:
    budget = TokenBucket(10.0)
    budget.take(0.0)
    budget.spend(4, 0.0)

    assert budget.ready_at(0.0) == pytest.approx(0.5)
    assert not budget.take(0.45)
    assert budget.take(0.5)


# The breaker, and whose trouble it is


def test_a_refusal_is_confirmed_by_a_second_one() -> None:
    breaker = Breaker()

    assert [breaker.counts(refusal=True), breaker.counts(refusal=True)] == [False, True]


def test_a_refusal_that_others_do_not_confirm_is_forgotten() -> None:
    breaker = Breaker()
    breaker.counts(refusal=True)
    breaker.close()

    assert not breaker.counts(refusal=True)


def test_other_failures_do_not_confirm_a_refusal() -> None:
    breaker = Breaker()
    breaker.counts()

    assert not breaker.counts(refusal=True)


@pytest.mark.parametrize(("limited", "resets"), [(False, True), (True, False)])
def test_a_breaker_is_reset_unless_the_upstream_asked_for_time(limited: bool, resets: bool) -> None:
    breaker = Breaker(threshold=1)
    breaker.counts()
    breaker.open(30.0, limited=limited)

    assert breaker.reset() is resets
    assert breaker.allows(0.0) is resets


def test_a_try_that_nothing_will_come_of_gives_way_to_another() -> None:
    breaker = Breaker(threshold=1)
    fail(breaker, 10.0)
    breaker.try_out()
    breaker.abandon()

    assert (breaker.state, breaker.openings, breaker.allows(9.9), breaker.allows(10.0)) == ("open", 1, False, True)


def test_a_breaker_that_tries_nothing_stays_as_it_is_when_requests_are_abandoned() -> None:
    breaker = Breaker(threshold=1)
    breaker.abandon()
    closed = breaker.state
    fail(breaker, 10.0)
    breaker.abandon()

    assert (closed, breaker.state, breaker.until) == ("closed", "open", 10.0)


def test_a_trial_that_breaks_off_leaves_the_token_refused_until_a_request_succeeds() -> None:
    breaker = Breaker(threshold=1)
    breaker.counts(refusal=True)
    breaker.open(10.0, refusal=True)
    breaker.try_out()
    tried = breaker.token_refused
    breaker.reopen(20.0)
    refused = breaker.token_refused
    breaker.try_out()
    breaker.close()

    assert (tried, refused, breaker.token_refused) == (False, True, False)
