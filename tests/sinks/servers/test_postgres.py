"""The PostgreSQL sink alone: its table, and rows that are refused."""

import pytest

from relay.queue import Counts
from sinks.postgres import PostgresSink, schema
from tests.sinks.servers.far import EPOCH, FARS, PostgresFar, left_out_alone, progress, quick
from tests.sinks.servers.wire import Wire

pytestmark = [pytest.mark.server, pytest.mark.parametrize("far", [FARS["postgres"]], indirect=True)]


async def test_it_creates_nothing_by_itself_and_waits_for_the_table(far: PostgresFar, wire: Wire) -> None:
    sink = far.sink(wire.port, create=False)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")
        [row] = await far.call(f"SELECT to_regclass('{far.table}') AS it")
        assert row["it"] is None
        await far.run(schema(far.table))
        await notices.one_with("works again")

    assert f"there is no table {far.table}; create it as the documentation shows, or set create = true" in failed
    assert len(await far.stored()) == 1


async def test_a_row_has_what_queries_need_and_the_record_as_json(far: PostgresFar, wire: Wire) -> None:
    sink = far.sink(wire.port)
    quick(sink)
    [record] = progress([7])

    async with sink:
        sink(record)

    [row] = await far.call(f"SELECT *, record->>'text' AS text FROM {far.table}")  # noqa: S608
    assert dict(row) == {
        "epoch": EPOCH,
        "offset": 7,
        "job": "job_1",
        "seq": 7,
        "at": record.at,
        "type": "progress",
        "level": "info",
        "skipped": 0,
        "record": record.json.decode(),
        "text": record.event.text,
    }


async def test_a_row_that_the_table_refuses_is_left_out_alone_and_reported(far: PostgresFar, wire: Wire) -> None:
    await far.run(f"{schema(far.table)} ALTER TABLE {far.table} ADD CHECK (seq <> 2)")
    records = progress(range(1, 6))
    sink = far.sink(wire.port, batch=3, linger=0.0)

    assert await left_out_alone(far, sink, records) == [
        f"sink far: {EPOCH}-2 is left out: the table refuses its row (SQLSTATE 23514)"
    ]


async def test_a_table_in_a_schema_is_created_and_found(far: PostgresFar, wire: Wire) -> None:
    await far.run("CREATE SCHEMA IF NOT EXISTS audit")
    far.table = f"audit.{far.table}"
    sink = far.sink(wire.port)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])

    assert notices.texts == []
    assert len(await far.stored()) == 1


async def test_a_table_without_its_primary_key_is_named(far: PostgresFar, wire: Wire) -> None:
    await far.run(f"{schema(far.table)} ALTER TABLE {far.table} DROP CONSTRAINT {far.table}_pkey")
    sink = far.sink(wire.port)
    notices = quick(sink)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")
        await far.run(f'ALTER TABLE {far.table} ADD PRIMARY KEY (epoch, "offset")')
        await notices.one_with("works again")

    assert f'the table {far.table} has no primary key (epoch, "offset")' in failed
    assert len(await far.stored()) == 1


async def test_what_the_server_says_of_a_role_is_reported(far: PostgresFar, wire: Wire) -> None:
    url = f"postgresql://nobody:c4n4ry@127.0.0.1:{wire.port}/postgres?sslmode=disable"
    sink = PostgresSink(url)
    notices = quick(sink, drain_within=1.0)

    async with sink:
        sink(progress([1])[0])
        failed = await notices.one_with("failed")

    assert f'127.0.0.1:{wire.port}: role "nobody" does not exist (SQLSTATE 28000)' in failed
    assert "c4n4ry" not in f"{notices.texts} {sink!r}"


async def test_a_role_that_may_insert_and_select_is_enough(far: PostgresFar, wire: Wire) -> None:
    await far.run(f"{schema(far.table)} CREATE ROLE least LOGIN; GRANT INSERT, SELECT ON {far.table} TO least")
    records = progress(range(1, 4))

    for _ in range(2):
        url = f"postgresql://least@127.0.0.1:{wire.port}/postgres?sslmode=disable"
        sink = PostgresSink(url, table=far.table)
        notices = quick(sink)
        async with sink:
            for record in records:
                sink(record)
        assert (notices.texts, sink.counts()) == ([], Counts(delivered=3))

    assert len(await far.stored()) == 3
