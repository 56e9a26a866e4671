"""One delivery at a time, or a batch: in order over all jobs, and held back by a failure rather than lost."""

import asyncio
from pathlib import Path

import pytest

from relay.durable.reader import SAVE_AFTER
from relay.journal import Retention
from relay.journal._cursors import stored_cursors
from relay.journal._reading import reading
from relay.queue import EndpointGone, Retries, Undeliverable
from tests.durable.far_end import FarEnd, House, house

DOWN = ConnectionRefusedError("nobody is there")


def saved(path: Path) -> dict[str, int]:
    """The cursors that a restart would find."""
    with reading(path) as sql:
        return dict(stored_cursors(sql))


async def test_records_are_delivered_in_order_and_the_cursor_follows(here: House) -> None:
    far = FarEnd()
    here.teller.tell("abab")
    async with here.running(far) as reader:
        await here.tell("cc")
        assert (far.offsets, reader.cursor, here.cursor()) == ([1, 2, 3, 4, 5, 6], 6, 6)
        assert (reader.counts().delivered, reader.counts().waiting, reader.state) == (6, 0, "closed")


async def test_a_move_is_saved_at_most_a_quarter_of_a_second_later_also_while_nothing_is_committed(
    here: House, path: Path
) -> None:
    far = FarEnd()
    async with here.running(far):
        await here.tell("a")
        assert saved(path) == {"hook": 0}
        await here.settled(SAVE_AFTER)
        assert saved(path) == {"hook": 1}


async def test_a_sink_begins_with_the_next_record_and_with_its_cursor_after_that(path: Path) -> None:
    far = FarEnd()
    with house(path) as here:
        here.teller.tell("aaa")
        async with here.running(far, start=3):
            await here.tell("a")
        here.journal.cursors.save()
        here.teller.tell("aa")
    with house(path) as here:
        async with here.running(far, start=6):
            assert far.offsets == [4, 5, 6]


async def test_a_batch_is_full_or_as_old_as_it_may_be(here: House) -> None:
    far = FarEnd(batch=(3, 0.5))
    here.teller.tell("abababab")
    async with here.running(far) as reader:
        assert (far.batches, reader.cursor) == ([3, 3], 6)
        await here.settled(0.4)
        assert far.batches == [3, 3]
        await here.settled(0.1)
        assert (far.batches, far.offsets, reader.cursor) == ([3, 3, 2], list(range(1, 9)), 8)
        await here.tell("a")
        await here.settled(0.3)
        await here.tell("aa")
        assert far.batches == [3, 3, 2, 3]


async def test_after_each_batch_the_cursor_is_saved(here: House, path: Path) -> None:
    far = FarEnd(batch=(2, 0.5))
    here.teller.tell("abab")
    async with here.running(far):
        assert saved(path) == {"hook": 4}


async def test_a_failure_holds_back_what_follows_for_as_long_as_it_takes(here: House) -> None:
    far = FarEnd(retries=Retries(within=1.0, base=1.0, cap=10.0))
    far.refused["b"] = DOWN
    async with here.running(far) as reader:
        await here.tell("abc")
        for _ in range(100):
            await here.settled(60.0)
        assert (far.offsets, reader.cursor, reader.state) == ([1], 1, "open")
        assert reader.counts().waiting == 2
        far.refused.clear()
        await here.settled(31.0)
        assert (far.offsets, reader.cursor, reader.state) == ([1, 2, 3], 3, "closed")


@pytest.mark.parametrize("attempts", [None, 3])
async def test_records_that_are_given_up_on_are_dead_letters_and_can_be_revived(
    here: House, attempts: int | None
) -> None:
    far = FarEnd(batch=(2, 0.0), retries=Retries(base=1.0, cap=1.0, attempts=attempts))
    far.refused["b"] = Undeliverable("too large") if attempts is None else DOWN
    async with here.running(far) as reader:
        await here.tell("aabacc")
        await here.settled(5.0)
        assert (far.offsets, reader.cursor) == ([1, 2, 5, 6], 6)
        assert [letter.record.position.offset for letter in here.journal.parking.dead("hook")] == [3, 4]
        assert (reader.counts().failed, reader.counts().delivered) == (2, 4)

        far.refused.clear()
        assert here.journal.parking.revive("hook", 3, 0.0)
        await here.tell("a")
        assert far.offsets == [1, 2, 5, 6, 7, 3]
        assert [letter.record.position.offset for letter in here.journal.parking.dead("hook")] == [4]


async def test_a_far_end_that_is_gone_gets_nothing_more_and_nothing_waits_for_it(here: House) -> None:
    far = FarEnd()
    far.down = EndpointGone("410 Gone")
    async with here.running(far) as reader:
        await here.tell("ab")
        await here.tell("c")
        assert (far.attempts.total(), reader.closed) == (1, True)
        assert [cursor.pins for cursor in here.journal.cursors.all()] == [False]


async def test_the_sink_gets_its_loss_as_a_number_in_its_place(path: Path) -> None:
    far = FarEnd()
    with house(path, Retention(records=10, bytes=4_000, pin_bytes=4_000)) as here:
        async with here.running(far):
            await here.tell("ab")
        here.journal.cursors.save()
        for _ in range(100):
            here.teller.tell("a")
        first = here.journal.read(0)[0].position.offset
        async with here.running(far) as reader:
            assert far.losses == [(2, first - 3)]
            assert far.offsets == [1, 2, *range(first, 103)]
            assert reader.counts().dropped == first - 3


async def test_records_that_cannot_be_read_are_part_of_the_loss(path: Path) -> None:
    far = FarEnd()
    with house(path) as here:
        here.teller.tell("aaaa")
        here.journal._file.sql.execute("UPDATE records SET body = X'7B7D' WHERE offset IN (2, 4)")
    with house(path) as here:
        async with here.running(far) as reader:
            assert (far.offsets, far.losses, reader.cursor) == ([1, 3], [(0, 2)], 4)
            assert reader.counts().dropped == 2


async def test_draining_delivers_what_is_committed(here: House) -> None:
    far = FarEnd(batch=(10, 60.0))
    here.teller.tell("abab")
    reader = here.reader(far)
    reader.start(lambda name, work: asyncio.create_task(work(), name=name))
    await reader.end(drain=True)
    assert (far.batches, here.cursor(), reader.cursor) == ([4], 4, 4)


async def test_a_cursor_that_cannot_be_saved_just_now_stops_nothing(here: House, path: Path) -> None:
    far = FarEnd(batch=(1, 0.0))
    async with here.running(far):
        await here.tell("a")
        here.teller.tell("aa")
        here.journal._file.sql.execute("PRAGMA query_only = ON")
        await here.settled()
        assert far.offsets == [1, 2, 3]
        here.journal._file.sql.execute("PRAGMA query_only = OFF")
        await here.tell("a")
        assert saved(path) == {"hook": 4}
