"""What waits for a shared journal, and in which order it is sent."""

from datetime import UTC, datetime

from msgspec.structs import replace

from relay.bus.outbox import BATCH, MOST_WAITING, Outbox, Stage, Waiting
from relay.events import Accepted, Log, Position
from relay.jobs.state import Job, evolve
from relay.wire.record_json import stamp

AT = datetime(2026, 1, 1, tzinfo=UTC)


def add(outbox: Outbox, job: Job, *, since: float = 0.0, size: int = 0) -> Waiting:
    before = outbox.state(job)
    event = Log(line="x") if before.seq else Accepted(upstream="u")
    record = stamp(job.id, before.seq + 1, AT, event, Position("e", 0))
    record = replace(record, json=record.json.ljust(size))
    waiting = Waiting(job, record, evolve(before, record), since)
    outbox.add(waiting)
    return waiting


def test_batches_are_formed_from_the_front_and_stay_small() -> None:
    outbox, job = Outbox(), Job("a")
    waiting = [add(outbox, job) for _ in range(BATCH + 3)]

    first = outbox.next()
    assert first == outbox.next() == waiting[:BATCH]
    outbox.sent(first)
    assert outbox.next() == waiting[BATCH:]
    outbox.sent(outbox.next())
    assert outbox.next() == []
    assert (len(outbox), outbox.state(job).seq) == (BATCH + 3, BATCH + 3)


def test_a_batch_of_long_records_has_few_and_one_at_least() -> None:
    outbox, job = Outbox(), Job("a")
    for size in (900, 124, 1, 2000, 1023):
        add(outbox, job, size=size * 1024)

    counts = list[int]()
    while batch := outbox.next():
        counts.append(len(batch))
        outbox.sent(batch)
    assert counts == [2, 1, 1, 1]


def test_as_much_waits_as_may_and_there_is_room_again_at_half_of_it() -> None:
    outbox, job = Outbox(), Job("a")
    waiting = [add(outbox, job, since=float(n)) for n in range(MOST_WAITING)]
    assert (outbox.full, outbox.half_empty, outbox.since) == (True, False, 0.0)

    for one in waiting[: MOST_WAITING // 2 - 1]:
        outbox.delivered(one)
    assert (outbox.full, outbox.half_empty, outbox.since) == (False, False, MOST_WAITING / 2 - 1)
    outbox.delivered(waiting[MOST_WAITING // 2 - 1])
    assert outbox.half_empty
    for one in waiting[MOST_WAITING // 2 :]:
        outbox.delivered(one)
    assert (len(outbox), outbox.since) == (0, None)


def test_a_refused_job_loses_what_the_journal_does_not_have_and_no_other_job_does() -> None:
    settled = list[str]()
    outbox, a, b = Outbox(settled.append), Job("a"), Job("b")
    first, second, third = add(outbox, a), add(outbox, a), add(outbox, a)
    other = add(outbox, b)
    outbox.sent([first, second])
    outbox.acknowledged(first)

    assert outbox.refuse("a") == [second, third]
    assert outbox.refuse("a") == outbox.refuse("nobody") == []
    assert (outbox.state(a), len(outbox), outbox.unknown) == (first.state, 2, 1)
    assert (outbox.next(), settled) == ([other], [])
    outbox.delivered(first)
    assert (outbox.state(a), settled) == (a.state, ["a"])
    assert [outbox.waits(one) for one in (first, second, other)] == [False, False, True]


def test_a_withdrawn_job_leaves_nothing_but_what_would_end_it() -> None:
    outbox, a, b = Outbox(), Job("a"), Job("b")
    one, other = add(outbox, a), add(outbox, b)
    outbox.sent([one, other])
    other.ends = True

    assert (outbox.withdraw("a"), outbox.withdraw("b")) == ([one], [])
    assert (len(outbox), outbox.oldest("a"), outbox.oldest("b")) == (1, None, other)


def test_in_a_new_epoch_all_is_unsent_again_in_order_but_for_what_nobody_waits_for() -> None:
    outbox, a, b = Outbox(), Job("a"), Job("b")
    first, given_up, second = add(outbox, a), add(outbox, b), add(outbox, a)
    outbox.sent([first, given_up])
    outbox.acknowledged(first)
    given_up.ends = True

    assert outbox.begin_anew() == [given_up]
    assert (outbox.next(), outbox.unknown) == ([first, second], 2)
    outbox.acknowledged(first)
    assert first.stage is Stage.UNSENT, "an answer of the old epoch means nothing in the new one"
