"""Records that are stamped and not committed: their numbers, and the states that they add up to."""

from datetime import UTC, datetime

import pytest

from relay.bus import pending as pending_records
from relay.bus.pending import PendingRecords
from relay.events import Accepted, Done, Event, Failed, Log, Position
from relay.jobs import Job, JobState

AT = datetime(2026, 11, 28, tzinfo=UTC)


def append(pending: PendingRecords, *events: tuple[Job, Event]) -> None:
    for job, event in events:
        pending.append(job, event, Position("e", 7 + len(pending)), AT)


def shown(pending: PendingRecords) -> list[tuple[str, int, int, str]]:
    return [
        (one.job.id, one.record.seq, one.record.position.offset, one.record.event.text) for one in pending.oldest(99)
    ]


def test_the_next_record_follows_on_the_pending_ones_and_the_job_is_what_is_committed() -> None:
    pending, job = PendingRecords(), Job("a")
    append(pending, (job, Accepted(upstream="u", task="t")), (job, Done()))
    first, second = pending.oldest(2)
    assert ((first.record.seq, second.record.seq), job.state) == ((1, 2), JobState())
    assert (first.state.task, first.state.ended, pending.state(job)) == ("t", False, second.state)

    pending.remove([first])
    assert (job.state, pending.state(job), len(pending)) == (first.state, second.state, 1)

    pending.remove([second])
    assert (job.state, pending.state(job), len(pending)) == (second.state, second.state, 0)


def test_a_record_that_is_withdrawn_leaves_nothing_behind() -> None:
    pending, job, other = PendingRecords(), Job("a"), Job("b")
    append(pending, (other, Log(line="stays")), (job, Accepted(upstream="u")))

    assert (pending.withdraw(other), pending.withdraw(job), pending.withdraw(job)) == (False, True, False)
    assert (pending.state(job), shown(pending)) == (JobState(), [("b", 1, 7, "stays")])


def test_what_is_committed_or_withdrawn_takes_no_room_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pending, job, other = PendingRecords(), Job("a"), Job("b")
    line = (job, Log(line="x" * 1_000))
    append(pending, line)
    monkeypatch.setattr(pending_records, "MOST_BYTES", 2 * len(pending.oldest(1)[0].record.json))
    full: list[bool] = []
    for _ in range(3):
        append(pending, line)
        full.append(pending.full)
        pending.remove(pending.oldest(1))
        full.append(pending.full)
        append(pending, (other, Log(line="y" * 1_000)))
        full.append(pending.full)
        assert pending.withdraw(other)
        full.append(pending.full)
    assert full == [True, False] * 6
    append(pending, line)
    pending.remove(pending.oldest(2))
    append(pending, line)

    assert (len(pending), pending.full) == (1, False)


def test_a_substitute_takes_the_number_of_the_oldest_record_and_the_others_keep_theirs() -> None:
    pending, a, b = PendingRecords(), Job("a"), Job("b")
    append(pending, (a, Log(line="odd")), (b, Log(line="one")), (a, Log(line="two")))

    replaced = pending.with_oldest_replaced(Log(line="in its place"))

    assert shown(replaced) == [("a", 1, 7, "in its place"), ("b", 1, 8, "one"), ("a", 2, 9, "two")]
    assert shown(pending)[0] == ("a", 1, 7, "odd")


def test_without_a_substitute_or_behind_an_end_there_is_no_hole() -> None:
    pending, a, b = PendingRecords(), Job("a"), Job("b")
    append(pending, (a, Log(line="odd")), (a, Log(line="one")), (b, Log(line="two")))

    assert shown(pending.with_oldest_replaced(None)) == [("a", 1, 7, "one"), ("b", 1, 8, "two")]
    ended = pending.with_oldest_replaced(Failed(kind="internal", message="not stored"))
    assert [(job, seq, offset) for job, seq, offset, _ in shown(ended)] == [("a", 1, 7), ("b", 1, 8)]
