"""Times, as people say them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import Progress, Retrying, Stalled
from relay.text import duration, in_passing


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (0.05, "0.05 seconds"),
        (1, "1 second"),
        (2.5, "2.5 seconds"),
        (10, "10 seconds"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (100, "100 seconds"),
        (120, "2 minutes"),
        (150, "2 minutes 30 seconds"),
        (1_500, "25 minutes"),
        (3_600, "1 hour"),
        (3_601, "1 hour"),
        (3_661, "1 hour 1 minute"),
        (5_400, "1 hour 30 minutes"),
        (86_400, "1 day"),
        (90_061, "1 day 1 hour"),
        (1_000 * 86_400, "1,000 days"),
        (math.inf, "an unknown time"),
        (math.nan, "an unknown time"),
    ],
)
def test_a_duration_is_said_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(0, 1e12))
def test_every_duration_has_one_or_two_parts_and_no_exponent(seconds: float) -> None:
    parts = duration(seconds).split()

    assert len(parts) in (2, 4)
    assert seconds < 0.001 or "e" not in parts[0]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (64, "64 s"), (179, "179 s"), (180, "3 minutes"), (9e3, "2 hours 30 minutes")]
)
def test_in_passing_a_short_one_is_said_in_seconds(seconds: float, words: str) -> None:
    assert in_passing(seconds) == words


def test_events_say_long_times_so_too() -> None:
    progress = Progress(percent=None, status="running", eta=600, eta_low=150, eta_high=900)

    assert progress.text == "running, about 150 s to 15 minutes left"
    assert Stalled(seconds=4_000).text == "nothing has moved for 1 hour 6 minutes"
    assert Retrying(kind="server", message="503", attempt=1, next_in=3_600).text == (
        "poll failed (server): 503; next try in 1 hour"
    )
