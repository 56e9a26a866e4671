"""Lanes: many jobs at once, each in order, and none that fails holds up another."""

import asyncio
from pathlib import Path

from relay.durable.lanes import MOST_AHEAD, MOST_RECORDS
from relay.events import Log
from relay.journal import Retention
from relay.queue import EndpointGone, Retries, RetryLater, Undeliverable
from relay.supervision.supervisor import Supervisor
from relay.testing import ManualClock
from tests.durable.far_end import FarEnd, House, follows, house

DOWN = ConnectionRefusedError("nobody is there")
JOBS = [f"job {number}" for number in range(20)]


async def test_each_job_is_delivered_in_order_and_as_many_at_once_as_there_are_lanes(here: House) -> None:
    far = FarEnd(lanes=3)
    far.held = asyncio.Event()
    records = here.teller.tell("abcdabcdaaaa")
    async with here.running(far):
        assert (far.under_way.total(), far.most_under_way) == (3, 3)
        far.held.set()
        far.held = None
        await here.settled()
        more = await here.tell("da")
        assert sorted(far.offsets) == list(range(1, 15))
        assert all(far.seqs(job) == sorted(far.seqs(job)) for job in "abcd")
        assert {id(record) for record in records + more} >= {id(record) for record in more}
        assert here.cursor() == 14


async def test_the_cursor_is_the_low_water_mark(here: House) -> None:
    far = FarEnd(lanes=3)
    far.refused["b"] = DOWN
    async with here.running(far) as reader:
        await here.tell("abcacb")
        assert (sorted(far.offsets), reader.cursor, here.cursor()) == ([1, 3, 4, 5], 1, 1)
        far.refused.clear()
        await here.settled(10.0)
        assert (far.seqs("b"), reader.cursor, here.cursor()) == ([1, 2], 6, 6)


async def test_a_job_that_fails_for_a_minute_while_others_do_not_is_parked_and_the_cursor_goes_on(here: House) -> None:
    far = FarEnd(lanes=3)
    far.refused["bad"] = DOWN
    async with here.running(far) as reader:
        await here.tell(["bad", "good", "bad"])
        for _ in range(6):
            await here.tell(["good"])
            await here.settled(9.9)
        assert (here.journal.parking.waiting("hook"), reader.cursor) == (0, 0)
        await here.settled(12.0)
        assert (here.journal.parking.waiting("hook"), reader.cursor) == (2, 9)

        await here.tell(["bad", "good"])
        assert (here.journal.parking.waiting("hook"), reader.cursor) == (3, 11)
        assert (far.seqs("bad"), len(far.seqs("good"))) == ([], 8)
        assert reader.counts().waiting == 3

        far.refused.clear()
        await here.settled(10.0)
        assert (far.seqs("bad"), here.journal.parking.waiting("hook")) == ([1, 2, 3], 0)
        await here.tell(["bad"])
        assert (far.seqs("bad"), reader.cursor) == ([1, 2, 3, 4], 12)
        assert reader.counts().delivered == 12


async def test_while_the_far_end_is_down_nothing_is_parked_and_one_delivery_at_a_time_probes_it(here: House) -> None:
    far = FarEnd(lanes=10)
    far.down = DOWN
    async with here.running(far) as reader:
        await here.tell(JOBS)
        await here.settled(30.0)
        tried = far.attempts.total()
        assert reader.state == "open"
        far.most_under_way = 0
        for _ in range(60):
            await here.settled(10.0)
        probes = far.attempts.total() - tried
        assert 600 / 10 <= probes <= 600 / 5 + 1
        assert (far.most_under_way, here.journal.parking.waiting("hook"), reader.cursor) == (1, 0, 0)

        far.down = None
        await here.settled(10.0)
        assert (len(far.got), reader.state, reader.cursor) == (20, "closed", 20)
        assert [line for line in here.notices if "seems to be down" in line or "works again" in line] == [
            "the far end of sink hook seems to be down; one delivery at a time probes it",
            "sink hook works again",
        ]


async def test_after_one_success_all_that_waits_is_due_at_once_parked_or_not(here: House) -> None:
    far = FarEnd(lanes=5, retries=Retries(within=100_000.0, base=1_000.0, cap=4_000.0))
    async with here.running(far) as reader:
        for job in "abc":
            far.refused[job] = DOWN
        await here.tell("abcx")
        for _ in range(10):
            await here.settled(900.0)
            await here.tell("x")
        assert here.journal.parking.waiting("hook") == 3
        far.refused.clear()
        far.down = DOWN
        await here.tell("defgh")
        assert (far.seqs("d"), reader.state) == ([], "open")
        far.down = None
        await here.settled(60.0)
        assert [far.seqs(job) for job in "abcdefgh"] == [[1]] * 8


async def test_a_poisoned_job_alone_does_not_stop_a_new_one(here: House) -> None:
    far = FarEnd(lanes=2)
    far.refused["bad"] = DOWN
    async with here.running(far) as reader:
        await here.tell(["bad"])
        await here.settled(40.0)
        assert (far.attempts["bad"] > 5, reader.state) == (True, "closed")
        await here.tell(["good"])
        assert far.seqs("good") == [1]


async def test_a_record_whose_time_is_over_is_a_dead_letter_and_the_next_has_its_turn(here: House) -> None:
    far = FarEnd(lanes=2, retries=Retries(within=100.0, base=1.0, cap=10.0))
    far.refused["bad"] = DOWN
    async with here.running(far) as reader:
        await here.tell(["bad", "bad", "good"])
        while not here.journal.parking.dead("hook"):
            await here.settled(5.0)
        (letter,) = here.journal.parking.dead("hook")
        assert (letter.record.job, letter.record.seq, letter.dead) == ("bad", 1, True)
        assert (reader.counts().failed, reader.counts().waiting) == (1, 1)
        assert here.clock.monotonic() <= 115.0
        far.refused.clear()
        await here.settled(11.0)
        assert far.seqs("bad") == [2]

        assert here.journal.parking.revive("hook", letter.record.position.offset, 0.0)
        await here.settled(1.0)
        assert far.seqs("bad") == [2, 1]
    assert sum("is kept as a dead letter" in line or "kept as dead" in line for line in here.notices) == 1


async def test_a_record_that_the_far_end_will_never_accept_is_a_dead_letter_at_once(here: House) -> None:
    far = FarEnd(lanes=2)
    far.refused["bad"] = Undeliverable("too large")
    async with here.running(far) as reader:
        await here.tell(["bad", "good", "bad"])
        assert [letter.record.seq for letter in here.journal.parking.dead("hook")] == [1, 2]
        assert (far.seqs("good"), reader.cursor, reader.state) == ([1], 3, "closed")


async def test_a_far_end_that_is_gone_gets_nothing_more_and_nothing_waits_for_it(here: House) -> None:
    far = FarEnd(lanes=2)
    far.down = EndpointGone("410 Gone")
    async with here.running(far) as reader:
        await here.tell("ab")
        await here.tell("cd")
        assert (far.attempts.total(), reader.closed, reader.state) == (2, True, "open")
        assert [cursor.pins for cursor in here.journal.cursors.all()] == [False]
    assert here.notices == ["sink hook is closed, for its far end wants nothing any more: EndpointGone: 410 Gone"] * 2


async def test_a_far_end_that_names_a_time_gets_nothing_before(here: House) -> None:
    far = FarEnd(lanes=2)
    far.down = RetryLater("429", after=8.0)
    async with here.running(far):
        await here.tell("a")
        far.down = None
        await here.tell("bcd")
        await here.settled(7.9)
        assert far.got == []
        await here.settled(0.2)
        assert len(far.got) == 4


async def test_a_restart_goes_on_from_the_cursor_and_knows_what_is_parked_and_how_often_it_failed(path: Path) -> None:
    far, clock = FarEnd(lanes=2), ManualClock()
    far.refused["bad"] = DOWN
    with house(path, clock=clock) as here:
        async with here.running(far):
            await here.tell(["bad", "good", "bad", "good"])
            while not here.journal.parking.waiting("hook"):
                await here.settled(10.0)
                await here.tell(["good"])
            (head,) = here.journal.parking.heads("hook", 9e9, 1)
            here.teller.tell(["good", "bad"])
    seen = len(far.got)
    with house(path, clock=clock) as here:
        async with here.running(far) as reader:
            assert far.seqs("good")[-1] == len(far.seqs("good"))
            assert len(far.got) == seen + 1
            assert here.journal.parking.heads("hook", 9e9, 1) == [head], "a restart does not bring it forward"
            far.refused.clear()
            await here.settled(11.0)
            assert (far.seqs("bad"), reader.cursor) == ([1, 2, 3], here.journal.head)


async def test_it_holds_a_bounded_number_of_records_however_many_wait(here: House) -> None:
    far = FarEnd(lanes=2)
    far.down = DOWN
    async with here.running(far) as reader:
        for _ in range(20):
            await here.tell([f"job {number}" for number in range(200)])
        await here.settled(100.0)
        assert MOST_RECORDS - 64 <= reader.in_hand <= MOST_RECORDS
        far.down = None
        await here.settled(60.0)
        assert (len(far.got), reader.in_hand, reader.cursor) == (4_000, 0, 4_000)


async def test_jobs_that_fail_are_parked_at_once_where_they_hold_up_others(here: House) -> None:
    far = FarEnd(lanes=5)
    far.refused["bad"] = DOWN
    async with here.running(far) as reader:
        await here.tell(["bad", "good"])
        for _ in range(MOST_AHEAD // 200 + 2):
            await here.tell(["good"] * 200)
        assert len(far.seqs("good")) == here.journal.head - 1
        assert here.journal.head - reader.cursor <= MOST_AHEAD
        assert here.journal.parking.waiting("hook") == 1


async def test_the_sink_is_told_its_loss_before_it_gets_more(path: Path) -> None:
    keep = Retention(records=10, bytes=4_000, pin_bytes=4_000)
    far = FarEnd(lanes=2)
    far.down = DOWN
    with house(path, keep) as here:
        async with here.running(far) as reader:
            await here.tell("ab")
            await here.settled(1.0)
        for _ in range(100):
            here.teller.tell("a")
        kept = here.journal.read(0)
        async with here.running(far) as reader:
            far.down = None
            await here.settled(20.0)
            first = kept[0].position.offset
            assert far.losses == [(0, first - 1)]
            assert far.offsets == list(range(first, 103))
            assert (reader.counts().dropped, reader.cursor) == (first - 1, 102)
    assert (
        f"sink hook has lost {first - 1:,} records, which were kept in the journal for it until the bound"
        " keep.pin_bytes was reached"
    ) in here.notices


async def test_draining_delivers_what_is_committed_and_does_not_wait_for_a_far_end_that_fails(here: House) -> None:
    far = FarEnd(lanes=2)
    reader = here.reader(far)
    here.teller.tell("abab")
    reader.drain()
    await reader.run()
    reader.leave()
    assert (len(far.got), here.cursor()) == (4, 4)

    far.down = DOWN
    reader = here.reader(far)
    here.teller.tell("ab")
    reader.drain()
    await reader.run()
    reader.leave()
    assert (len(far.got), here.cursor()) == (4, 4)


async def test_records_that_the_sink_does_not_want_are_passed_over(here: House) -> None:
    far = FarEnd(lanes=2)
    async with here.running(far) as reader:
        for _ in range(3):
            here.teller.say("a", Log(line="x", severity="warning"))
        here.journal.commit()
        await here.tell("a")
        assert (far.seqs("a"), reader.cursor, reader.counts().delivered) == ([4], 4, 1)


async def test_an_attempt_that_ignores_its_end_occupies_its_own_slot_alone(here: House) -> None:
    class Stubborn(FarEnd):
        async def work(self, given: object) -> None:
            if getattr(given, "job", "") != "stuck":
                return await super().work(given)  # type: ignore[arg-type]
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    release = asyncio.Event()
    far = Stubborn(lanes=2, timeout=5.0)
    async with here.running(far):
        try:
            await here.tell(["stuck", "a", "b"])
            await here.settled(30.0)
            await here.tell(["a", "b", "c"])
            assert [far.seqs(job) for job in "abc"] == [[1, 2], [1, 2], [1]]
        finally:
            release.set()


async def test_a_file_that_cannot_be_written_for_a_while_costs_nobody_a_record(here: House) -> None:
    far = FarEnd(lanes=3)
    far.refused["bad"] = DOWN
    reader = here.reader(far)
    here.readers.append(reader)
    reader.start(Supervisor(here.clock, here.notices.append).start)
    await here.tell(["bad", "good"])
    here.journal._file.sql.execute("PRAGMA query_only = ON")
    for _ in range(20):
        await here.settled(10.0)
    here.journal._file.sql.execute("PRAGMA query_only = OFF")
    assert any("the reader of sink hook broke off with JournalError" in line for line in here.notices)
    await here.tell(["bad", "good"])
    for _ in range(20):
        await here.settled(10.0)
        await here.tell(["good"])
    assert here.journal.parking.waiting("hook") == 2
    far.refused.clear()
    await here.settled(20.0)
    await reader.end(drain=True)
    assert (follows(far.seqs("bad")), follows(far.seqs("good")), here.cursor()) == (True, True, here.journal.head)
