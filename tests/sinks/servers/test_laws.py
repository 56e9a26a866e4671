"""Laws of every sink that writes to a server, with the real one: each record once, and in order, whatever happens."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from relay import Job, Relay, SinkOptions, SqliteJournal
from relay.events import Log, Record
from relay.queue import Counts
from relay.testing import check_sink, sample_records
from relay.testing.conformance.samples import hostile_records
from tests.sinks.servers.far import FARS, Far, Notices, Stored, progress, quick
from tests.sinks.servers.far_end import RealFarEnd
from tests.sinks.servers.wire import Wire

pytestmark = [pytest.mark.server, pytest.mark.parametrize("far", FARS.values(), indirect=True)]

ONE_BATCH = {"linger": 0.0}
A_SECOND: Any = {"timeout": 20.0}
"""On a clock that is 20 times as quick, an attempt has one second."""


def as_stored(records: list[Record], skipped: int = 0) -> list[Stored]:
    """*records* as a server is to have them, the first one behind a loss of *skipped*."""
    rows = [Stored(record.position.offset, 0, record.json) for record in records]
    return [rows[0]._replace(skipped=skipped), *rows[1:]]


async def test_every_record_is_stored_once_and_in_order(far: Far, wire: Wire) -> None:
    records = progress(range(1, 51))
    sink = far.sink(wire.port, batch=7, linger=0.0)
    notices = quick(sink)

    async with sink:
        for record in records:
            sink(record)

    assert await far.stored() == as_stored(records)
    assert sink.counts() == Counts(delivered=50)
    assert (notices.texts, wire.connections) == ([], 1)


async def test_a_hostile_text_is_stored_as_it_is_on_the_wire(far: Far, wire: Wire) -> None:
    ours = [*sample_records(), *hostile_records()]
    records = [_at(record, number) for number, record in enumerate(ours, 1)]
    sink = far.sink(wire.port)
    notices = quick(sink)

    async with sink:
        for record in records:
            sink(record)

    assert notices.texts == []
    assert await far.stored() == as_stored(records)


async def test_records_wait_for_a_server_that_is_not_there_yet(far: Far, wire: Wire) -> None:
    far.server.kill()
    records = progress(range(1, 4))
    sink = far.sink(wire.port, **ONE_BATCH)
    notices = quick(sink)

    async with sink:
        for record in records:
            sink(record)
        await notices.one_with("failed")
        await asyncio.to_thread(far.server.start)
        await notices.one_with("works again")

    assert await far.stored() == as_stored(records)
    assert sink.counts() == Counts(delivered=3)


async def test_it_resumes_when_the_server_was_killed_and_started_again(far: Far, wire: Wire) -> None:
    records = progress(range(1, 7))
    sink = far.sink(wire.port, **ONE_BATCH)
    notices = quick(sink)

    async with sink:
        for record in records[:3]:
            sink(record)
        await notices.stored(3)
        far.server.kill()
        for record in records[3:]:
            sink(record)
        await notices.one_with("failed")
        await asyncio.to_thread(far.server.start)
        await notices.one_with("works again")

    assert await far.stored() == as_stored(records)


async def test_it_resumes_when_the_server_stood_still(far: Far, wire: Wire) -> None:
    records = progress(range(1, 7))
    sink = far.sink(wire.port, **ONE_BATCH, **A_SECOND)
    notices = quick(sink)

    async with sink:
        for record in records[:3]:
            sink(record)
        await notices.stored(3)
        far.server.freeze()
        try:
            for record in records[3:]:
                sink(record)
            await notices.one_with("not done within")
        finally:
            far.server.thaw()
        await notices.one_with("works again")

    assert await far.stored() == as_stored(records)


@pytest.mark.parametrize("fault", ["cut", "half-close", "swallow"])
async def test_a_connection_that_fails_in_mid_batch_loses_and_repeats_nothing(far: Far, wire: Wire, fault: Any) -> None:
    records = progress(range(1, 5))
    sink = far.sink(wire.port, **A_SECOND)
    notices = quick(sink)
    wire.fail(fault, far.in_mid_batch)

    async with sink:
        for record in records:
            sink(record)
        await wire.happened.wait()
        await notices.one_with("works again")

    assert await far.stored() == as_stored(records)
    assert wire.connections >= 2


async def test_a_batch_whose_answer_was_lost_is_not_stored_twice(far: Far, wire: Wire) -> None:
    records = progress(range(4, 8))
    sink = far.sink(wire.port, capacity=4)
    notices = quick(sink)
    wire.fail("lose-answer", far.at_the_end)

    for record in [*progress(range(1, 4)), *records]:
        sink(record)
    async with sink:
        await wire.happened.wait()
        await notices.one_with("works again")

    assert await far.stored() == as_stored(records, skipped=3)


async def test_the_record_behind_a_loss_says_how_many_are_missing(far: Far, wire: Wire) -> None:
    sink = far.sink(wire.port, capacity=5, linger=0.0)
    notices = quick(sink)
    records = progress(range(1, 10))

    for record in records[:8]:
        sink(record)
    async with sink:
        await notices.stored(5)
        sink(records[8])

    assert await far.stored() == as_stored(records[3:], skipped=3)
    assert sink.counts() == Counts(delivered=6, dropped=3)


async def test_leaving_while_the_server_stands_still_ends_and_reports_the_rest(far: Far, wire: Wire) -> None:
    sink = far.sink(wire.port, **ONE_BATCH)
    notices = quick(sink, drain_within=3.0)

    async with sink:
        sink(progress([1])[0])
        await notices.stored(1)
        far.server.freeze()
        sink(progress([2])[0])
    far.server.thaw()

    assert notices.texts == ["sink far has ended before it delivered 1 record"]
    assert sink.counts() == Counts(delivered=1, dropped=1)


async def test_it_may_be_entered_again(far: Far, wire: Wire) -> None:
    sink = far.sink(wire.port)
    quick(sink)

    for record in progress(range(1, 4)):
        async with sink:
            sink(record)

    assert await far.stored() == as_stored(progress(range(1, 4)))


async def test_records_that_were_stored_before_a_restart_are_left_as_they_are(far: Far, wire: Wire) -> None:
    records = progress(range(1, 6))

    for part in (records[:4], records[2:]):
        sink = far.sink(wire.port)
        notices = quick(sink)
        async with sink:
            for record in part:
                sink(record)
        assert (notices.texts, sink.counts()) == ([], Counts(delivered=len(part)))

    assert await far.stored() == as_stored(records)


def _at(record: Record, number: int) -> Record:
    from msgspec.structs import replace

    return replace(record, position=progress([number])[0].position)


async def test_a_durable_sink_goes_on_in_the_journal_when_relay_and_server_come_back(
    far: Far, wire: Wire, tmp_path: Path
) -> None:
    written: list[Record] = []

    async def play(lines: int, *, drained: bool) -> None:
        sink = far.sink(wire.port, linger=0.0)
        notices = Notices(sink)
        journal = SqliteJournal(tmp_path / "relay.db")
        options = SinkOptions(sink=sink, name="archive", types=["log"], durable=True)
        async with Relay([], sinks=[options], journal=journal, notify=notices) as relay:
            job = relay.registry.add(Job(f"job_{lines}"))
            for line in range(lines):
                written.append(relay.bus.publish(job, Log(line=f"{line} of {lines}")))
            await (notices.stored(len(written) - stored) if drained else notices.one_with("failed"))

    stored = 0
    await play(5, drained=True)
    stored = 5
    far.server.kill()
    await play(3, drained=False)
    await asyncio.to_thread(far.server.start)
    await play(2, drained=True)

    assert [row.json for row in await far.stored(written[0].position.epoch)] == [record.json for record in written]
    assert len({record.position for record in written}) == 10


def test_it_keeps_the_laws_of_every_sink_with_its_server(far: Far) -> None:
    another: Any = type(far)
    with RealFarEnd(lambda: another(far.server)) as far_end:
        # The loss of a flood is read back record by record, which takes a minute; a law above has a smaller one.
        report = check_sink(
            far_end.sink, far_end=far_end, target="127.0.0.1", hasten=False, patience=60.0, waive=["loss_reported"]
        )

    assert {"arrives", "once", "ordered_across", "down", "frozen", "half_closed", "bounded", "adds_up"} <= {
        *report.kept
    }
    assert len(report.kept) >= 36
