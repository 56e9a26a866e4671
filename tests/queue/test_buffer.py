"""A buffer is bounded, keeps the order, and accounts for every record at every moment."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.events import Record
from relay.queue import OnFull, RecordBuffer
from relay.queue.buffer import BYTES_LIMIT
from tests.queue.records import log, progress

POLICIES = get_args(OnFull)
kinds = st.sampled_from([log, progress])
steps = st.lists(st.tuples(kinds, st.sampled_from(["job_a", "job_b"])) | st.integers(1, 4), max_size=60)


@given(st.sampled_from(POLICIES), st.integers(1, 9), steps)
def test_whatever_comes_each_record_is_taken_coalesced_dropped_or_waits_and_each_loss_is_reported_in_its_place(
    policy: OnFull, capacity: int, steps: list[Any]
) -> None:
    buffer = RecordBuffer(capacity, policy)
    given: list[Record] = []
    received: list[int | Record] = []
    for step in steps:
        if isinstance(step, int):
            _take(buffer, step, received)
        else:
            make, job = step
            given.append(make(len(given) + 1, job))
            buffer.put(given[-1])
        taken = sum(isinstance(one, Record) for one in received)
        assert len(buffer) <= capacity
        assert len(given) == taken + len(buffer) + buffer.coalesced + buffer.dropped
    while buffer:
        _take(buffer, 3, received)
    received.append(buffer.take_lost_behind())

    lost, missing = 0, 0
    offsets = iter([one.position.offset for one in given])
    for one in received:
        if isinstance(one, int):
            lost += one
            continue
        while next(offsets) != one.position.offset:
            missing += 1
        assert lost == missing, f"{lost} reported before {one.position}, {missing} missing"
    assert lost == buffer.coalesced + buffer.dropped


def _take(buffer: RecordBuffer, most: int, received: list[int | Record]) -> None:
    lost, records = buffer.take(most)
    assert len(records) <= most
    received += [lost, *records]


@pytest.mark.parametrize(
    ("policy", "left", "lost"),
    [("drop-oldest", [3, 4], 2), ("drop-newest", [1, 2], 0), ("coalesce", [3, 4], 2), ("close", [1, 2], 0)],
)
def test_a_full_buffer_keeps_the_records_that_its_policy_says(policy: OnFull, left: list[int], lost: int) -> None:
    buffer = RecordBuffer(2, policy)
    for number in (1, 2, 3, 4):
        buffer.put(log(number))
    portion = buffer.take(9)
    assert ([one.seq for one in portion.records], portion.lost) == (left, lost)
    assert (buffer.dropped, buffer.take_lost_behind()) == (2, 2 - lost)
    assert buffer.closed is (policy == "close")


def test_coalescing_leaves_out_progress_that_later_progress_replaces_and_nothing_else() -> None:
    buffer = RecordBuffer(4, "coalesce")
    for one in (log(1), progress(2), progress(3), log(4), progress(5)):
        buffer.put(one)
    assert [(one.lost, [record.seq for record in one.records]) for one in (buffer.take(9), buffer.take(9))] == [
        (0, [1]),
        (1, [3, 4, 5]),
    ]
    assert (buffer.coalesced, buffer.dropped) == (1, 0)


def test_records_wait_up_to_a_size_as_well() -> None:
    buffer = RecordBuffer(10_000, "drop-oldest")
    big = log(1, words="x" * 4_000)
    for _ in range(BYTES_LIMIT // len(big.json) + 10):
        buffer.put(big)
    assert len(buffer) == BYTES_LIMIT // len(big.json)
    assert buffer.dropped == 10


def test_a_full_buffer_without_progress_is_not_searched_for_it_at_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []

    def count(records: list[Record]) -> list[Record]:
        searches.append(len(records))
        return records

    monkeypatch.setattr("relay.queue.buffer.thinned", count)
    buffer = RecordBuffer(80, "coalesce")
    for number in range(1, 181):
        buffer.put(log(number))
    assert (len(searches), buffer.dropped) == (10, 100)


@pytest.mark.parametrize(("capacity", "policy"), [(0, "drop-oldest"), (5, "block")])
def test_what_is_no_bound_or_no_policy_is_refused(capacity: int, policy: Any) -> None:
    with pytest.raises(UsageError, match=r"at least one record|on_full is one of drop-oldest, "):
        RecordBuffer(capacity, policy)
