"""The Redis sink alone: its streams, their bounds, and what the server has to say."""

import re
from pathlib import Path
from typing import Any

import pytest

from relay.queue import Counts
from relay.secret import Secret
from sinks.redis import RedisSink
from tests.sinks.servers.far import EPOCH, FARS, RedisFar, Stored, progress, quick
from tests.sinks.servers.wire import Wire

pytestmark = [pytest.mark.server, pytest.mark.parametrize("far", [FARS["redis"]], indirect=True)]


async def test_a_stream_is_bounded_expires_and_can_be_found(far: RedisFar, wire: Wire) -> None:
    sink = far.sink(wire.port, maxlen=100, keep=3600.0)
    quick(sink)

    async with sink:
        for record in progress(range(1, 1001)):
            sink(record)

    key = f"{far.stream}:{EPOCH}"
    assert await far.call("GET", f"{far.stream}:current") == key.encode()
    assert 100 <= await far.call("XLEN", key) < 300  # whole nodes of the tree go, of 100 entries each
    assert 0 < await far.call("PTTL", key) <= 3_600_000
    [last] = progress([1000])
    assert await far.call("XREVRANGE", key, "+", "-", "COUNT", "1") == [
        (b"1000-0", {b"job": b"job_1", b"type": b"progress", b"record": last.json})
    ]


async def test_a_record_below_the_entry_of_another_writer_is_reported_and_not_counted_as_stored(
    far: RedisFar, wire: Wire
) -> None:
    await far.call("XADD", f"{far.stream}:{EPOCH}", "1-0", "record", "theirs")
    await far.call("XADD", f"{far.stream}:{EPOCH}", "5-0", "record", "theirs")
    sink = far.sink(wire.port, batch=2, linger=0.0)
    notices = quick(sink)

    async with sink:
        for record in progress([4, 6]):
            sink(record)
        await notices.stored(2)
        for record in progress([7, 8]):
            sink(record)

    assert [(row.offset, row.skipped) for row in await far.stored()] == [(1, 0), (5, 0), (6, 0), (7, 1), (8, 0)]
    assert sink.counts() == Counts(delivered=3, failed=1)
    assert sink.missed == 1
    [notice] = notices.texts
    assert notice.startswith(f"sink far: {EPOCH}-4 is left out: a later entry is in the stream already")


async def test_an_entry_that_was_deleted_or_trimmed_meanwhile_is_not_taken_for_lost(far: RedisFar, wire: Wire) -> None:
    key = f"{far.stream}:{EPOCH}"
    for records, command in (
        (progress(range(1, 6)), ("XDEL", key, "4-0")),
        (progress(range(1, 7)), ("XTRIM", key, "MINID", "3-0")),
        (progress(range(1, 8)), ("XTRIM", key, "MAXLEN", "0")),
        (progress(range(1, 9)), ("XLEN", key)),
    ):
        sink = far.sink(wire.port)
        notices = quick(sink)
        async with sink:
            for record in records:
                sink(record)
        assert (notices.texts, sink.counts()) == ([], Counts(delivered=len(records)))
        await far.call(*command)

    assert [row.offset for row in await far.stored()] == [8]


async def test_a_server_without_memory_refuses_a_batch_whole_and_gets_it_later(far: RedisFar, wire: Wire) -> None:
    records = progress(range(1, 4))
    sink = far.sink(wire.port)
    notices = quick(sink)

    await far.call("CONFIG", "SET", "maxmemory", "1")
    try:
        async with sink:
            for record in records:
                sink(record)
            failed = await notices.one_with("failed")
            await far.call("CONFIG", "SET", "maxmemory", "0")
            await notices.one_with("works again")
    finally:
        await far.call("CONFIG", "SET", "maxmemory", "0")

    assert "command not allowed when used memory > 'maxmemory'" in failed
    assert "running" not in failed  # of the record, which is in the error of the client
    assert await far.stored() == [Stored(record.position.offset, 0, record.json) for record in records]


async def test_a_key_of_another_type_is_left_alone(far: RedisFar, wire: Wire) -> None:
    key = f"{far.stream}:{EPOCH}"
    await far.call("SET", key, "theirs")
    sink = far.sink(wire.port)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")
        assert await far.call("GET", key) == b"theirs"
        await far.call("DEL", key)
        await notices.one_with("works again")

    assert "wrong kind of value" in failed
    assert len(await far.stored()) == 1


async def test_a_password_that_changes_in_its_file_is_used_for_the_next_attempt(
    far: RedisFar, wire: Wire, tmp_path: Path
) -> None:
    wrong, right = "c4n4ry-wrong", "c4n4ry:r/ght"
    await far.call("ACL", "SETUSER", "relay", "on", f">{right}", "~*", "+@all")
    file = tmp_path / "url"
    url = f"redis://relay:{wrong}@127.0.0.1:{wire.port}"
    sink = RedisSink(Secret(url, file), stream=far.stream)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")
        file.write_text(f"redis://relay:c4n4ry%3Ar%2Fght@127.0.0.1:{wire.port}")
        await notices.one_with("works again")

    assert f"127.0.0.1:{wire.port}: AuthenticationError: invalid username-password pair or user is disabled" in failed
    assert "c4n4ry" not in f"{notices.texts} {sink!r}"
    assert len(await far.stored()) == 1


async def test_entries_can_be_read_by_a_group_of_consumers(far: RedisFar, wire: Wire) -> None:
    key = f"{far.stream}:{EPOCH}"
    await far.call("XGROUP", "CREATE", key, "workers", "0", "MKSTREAM")
    records = progress(range(1, 4))
    sink = far.sink(wire.port)
    quick(sink)

    async with sink:
        for record in records:
            sink(record)

    read: Any = await far.call("XREADGROUP", "GROUP", "workers", "me", "STREAMS", key, ">")
    [[_, entries]] = read.items() if isinstance(read, dict) else read
    assert len(entries) == 3


async def test_the_rights_that_the_page_names_are_enough(far: RedisFar, wire: Wire) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/sinks/redis.md").read_text("utf-8")
    named = re.findall(r"`([A-Z]+)`", page.partition("needs the commands")[2].partition("\n")[0])
    rights = [f"+{command.lower()}" for command in named]
    await far.call("ACL", "SETUSER", "least", "reset", "on", ">made-up", f"~{far.stream}:*", *rights)
    records = progress(range(1, 4))

    for _ in range(2):  # the second time, the entries are looked up
        sink = RedisSink(f"redis://least:made-up@127.0.0.1:{wire.port}", stream=far.stream)
        notices = quick(sink)
        async with sink:
            for record in records:
                sink(record)
        assert (notices.texts, sink.counts()) == ([], Counts(delivered=3))
