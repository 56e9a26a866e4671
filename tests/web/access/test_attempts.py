"""How many attempts of an address may fail, with the time handed in."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from web.access import attempts as module
from web.access.attempts import MOST_ADDRESSES, FailedAttempts

ADDRESS: Final = "192.0.2.1"


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_fail_so_often_at_once_and_so_often_a_minute() -> None:
    time = Time()
    attempts = FailedAttempts(3, time)
    for _ in range(3):
        assert attempts.wait(ADDRESS) == 0
        attempts.failed(ADDRESS)

    assert attempts.wait(ADDRESS) == 20
    time.now += 19.5
    assert attempts.wait(ADDRESS) == 1
    time.now += 0.5
    assert attempts.wait(ADDRESS) == 0
    attempts.failed(ADDRESS)
    assert attempts.wait(ADDRESS) == 20
    time.now += 3_600
    waits = []
    for _ in range(4):
        attempts.failed(ADDRESS)
        waits.append(attempts.wait(ADDRESS))
    assert waits == [0, 0, 20, 20]


def test_another_address_does_not_wait() -> None:
    attempts = FailedAttempts(1, Time())
    attempts.failed(ADDRESS)

    assert (attempts.wait(ADDRESS), attempts.wait("192.0.2.2")) == (60, 0)


def test_the_fields_say_when_to_come_back() -> None:
    time = Time()
    attempts = FailedAttempts(2, time)
    attempts.failed(ADDRESS)
    time.now += 15
    attempts.failed(ADDRESS)

    policy = '"failures";q=2;w=60'
    assert attempts.fields(ADDRESS) == {
        "Retry-After": "15",
        "RateLimit-Policy": policy,
        "RateLimit": '"failures";r=0;t=15',
    }


def test_so_many_addresses_are_remembered_and_the_oldest_failure_is_forgotten() -> None:
    attempts = FailedAttempts(1, Time())
    attempts.failed("first")
    attempts.failed("second")
    for number in range(MOST_ADDRESSES - 2):
        attempts.failed(str(number))
    attempts.failed("first")
    assert (attempts.wait("first"), attempts.wait("second")) == (60, 60)

    attempts.failed("one more")

    assert (attempts.wait("first"), attempts.wait("second"), attempts.wait("one more")) == (60, 0, 60)
    assert len(attempts._left) == module.MOST_ADDRESSES


@given(
    most=st.integers(1, 50),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 100, allow_nan=False)), max_size=60),
)
def test_no_address_is_let_in_more_often_than_it_may(most: int, steps: list[tuple[bool, float]]) -> None:
    """Within any time, at most *most* attempts and as many more for each minute of it."""
    time = Time()
    attempts, begun, failures = FailedAttempts(most, time), time.now, 0
    for fails, seconds in steps:
        wait = attempts.wait(ADDRESS)
        assert 0 <= wait <= 60
        if fails and wait == 0:
            attempts.failed(ADDRESS)
            failures += 1
        assert failures <= most + (time.now - begun) * most / 60 + 1e-6
        time.now += seconds
