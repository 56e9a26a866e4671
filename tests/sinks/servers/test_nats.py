"""The NATS sink alone: its stream, its subjects, and records that are too long."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.sinks.servers.far import EPOCH, FARS, NatsFar, left_out_alone, progress, quick
from tests.sinks.servers.wire import Wire

pytestmark = [pytest.mark.server, pytest.mark.parametrize("far", [FARS["nats"]], indirect=True)]


async def test_it_creates_nothing_by_itself_and_waits_for_the_stream(far: NatsFar, wire: Wire) -> None:
    sink = far.sink(wire.port, create=False)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")
        await far.with_stream(lambda stream: stream.add_stream(name=far.subject, subjects=[f"{far.subject}.>"]))
        await notices.one_with("works again")

    assert f'no stream of the server has the subject "{far.subject}.>"; create one, or set create = true' in failed
    assert len(await far.stored()) == 1


async def test_a_stream_that_it_creates_is_bounded(far: NatsFar, wire: Wire) -> None:
    sink = far.sink(wire.port, keep=3600.0, max_bytes=1024**2, duplicate_window=60.0)
    quick(sink)

    async with sink:
        sink(progress([1])[0])

    config = (await far.with_stream(lambda stream: stream.stream_info(far.subject))).config
    assert (config.subjects, config.max_age, config.max_bytes, config.duplicate_window) == (
        [f"{far.subject}.>"],
        3600,
        1024**2,
        60,
    )


async def test_a_stream_that_is_there_is_used_as_it_is(far: NatsFar, wire: Wire) -> None:
    async def add(stream: Any) -> None:
        await stream.add_stream(name=far.subject, subjects=[f"{far.subject}.>"], max_msgs=17)

    await far.with_stream(add)
    sink = far.sink(wire.port, create=True)
    quick(sink)

    async with sink:
        sink(progress([1])[0])

    assert (await far.with_stream(lambda stream: stream.stream_info(far.subject))).config.max_msgs == 17
    assert len(await far.stored()) == 1


async def test_a_message_has_job_and_type_in_its_subject_and_the_position_as_id(far: NatsFar, wire: Wire) -> None:
    sink = far.sink(wire.port)
    quick(sink)
    [record] = progress([7], job="my.job_1-x")

    async with sink:
        sink(record)

    [message] = await far.messages()
    assert (message.subject, message.headers, message.data) == (
        f"{far.subject}.my_job_1-x.progress",
        {"Nats-Msg-Id": f"{EPOCH}-7"},
        record.json,
    )


async def test_a_record_that_is_longer_than_the_server_allows_is_left_out_alone(far: NatsFar, wire: Wire) -> None:
    records = progress(range(1, 6))
    records[1] = replace(records[1], json=b'"%s"' % (b"a" * 1024**2))
    sink = far.sink(wire.port, batch=3, linger=0.0)

    assert await left_out_alone(far, sink, records) == [
        f"sink far: {EPOCH}-2 is left out: it is longer than the 1,048,064 bytes that the server allows"
    ]


async def test_records_wait_while_the_stream_is_full(far: NatsFar, wire: Wire) -> None:
    async def add(stream: Any) -> None:
        await stream.add_stream(name=far.subject, subjects=[f"{far.subject}.>"], max_msgs=2, discard="new")

    await far.with_stream(add)
    records = progress(range(1, 5))
    sink = far.sink(wire.port)
    notices = quick(sink)

    async with sink:
        for record in records:
            sink(record)
        failed = await notices.one_with("failed")
        await far.with_stream(lambda stream: stream.purge_stream(far.subject))
        await notices.one_with("works again")

    assert "maximum messages exceeded" in failed
    assert [row.offset for row in await far.stored()] == [3, 4]  # the others have been purged
