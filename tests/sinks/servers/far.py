"""What a test has to know of each kind of server: how a sink is made for it, and what it has stored."""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, cast

import pytest

from relay.clock import SystemClock
from relay.events import Position as At
from relay.events import Progress, Record
from relay.queue import Counts
from relay.wire.record_json import stamp
from sinks._remote import RemoteSink
from sinks.nats import NatsSink
from sinks.postgres import PostgresSink
from sinks.redis import RedisSink
from tests.sinks.servers.programs import POSTGRES, NatsServer, RedisServer, Server

__all__ = [
    "FARS",
    "Far",
    "NatsFar",
    "Notices",
    "PostgresFar",
    "RedisFar",
    "Stored",
    "left_out_alone",
    "progress",
    "quick",
]

EPOCH: Final = "7f3a"
_numbers = count(1)


class Stored(NamedTuple):
    """One record as the server has it."""

    offset: int
    skipped: int
    json: bytes


class Far(Protocol):
    """A server with a place of its own for one test. *port* is that of a wire."""

    server: Server
    in_mid_batch: bytes
    """Bytes that the client sends when part of a batch is under way."""
    at_the_end: bytes
    """Bytes to which the server answers once it has stored a batch."""

    def sink(self, port: int, **options: Any) -> RemoteSink[Any]: ...
    async def stored(self, epoch: str | None = EPOCH) -> list[Stored]: ...
    async def size(self) -> int:
        """How many records are stored, whatever their epoch."""
        ...


class RedisFar:
    in_mid_batch = b"2-0"
    at_the_end = b"EXEC"

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stream = f"relay{next(_numbers)}"

    def sink(self, port: int, **options: Any) -> RedisSink:
        return RedisSink(f"redis://127.0.0.1:{port}/0", stream=self.stream, **options)

    async def call(self, *command: Any) -> Any:
        """The answer to one command."""
        from redis.asyncio import Redis

        assert isinstance(self.server, RedisServer)
        client: Any = Redis(unix_socket_path=str(self.server.socket), protocol=2)
        async with client:
            return await client.execute_command(*command)

    async def size(self) -> int:
        key = await self.call("GET", f"{self.stream}:current")
        size: int = await self.call("XLEN", key) if key is not None else 0
        return size

    async def stored(self, epoch: str | None = EPOCH) -> list[Stored]:
        key = await self.call("GET", f"{self.stream}:current") if epoch is None else f"{self.stream}:{epoch}"
        entries = await self.call("XRANGE", key, "-", "+") if key is not None else []
        return [
            Stored(int(id.partition(b"-")[0]), int(fields.get(b"skipped", 0)), fields[b"record"])
            for id, fields in entries
        ]


class PostgresFar:
    in_mid_batch = b'"seq":2,'
    at_the_end = b"COMMIT"

    def __init__(self, server: Server) -> None:
        self.server = server
        self.table = f"records{next(_numbers)}"

    def sink(self, port: int, **options: Any) -> PostgresSink:
        url = f"postgresql://relay@127.0.0.1:{port}/postgres?sslmode=disable"
        options = {"create": True, **options}
        return PostgresSink(url, table=self.table, **options)

    async def call(self, query: str) -> Any:
        """The rows of one query."""
        return await self._with_connection(lambda connection: connection.fetch(query))

    async def run(self, statements: str) -> None:
        await self._with_connection(lambda connection: connection.execute(statements))

    async def _with_connection(self, act: Callable[[Any], Any]) -> Any:
        import asyncpg  # type: ignore[import-untyped]

        connection: Any = await asyncpg.connect(host=str(self.server.folder), user="relay", database="postgres")
        try:
            return await act(connection)
        finally:
            await connection.close()

    async def size(self) -> int:
        [row] = await self.call(f"SELECT to_regclass('{self.table}') AS it")
        if row["it"] is None:
            return 0
        [row] = await self.call(f"SELECT count(*) AS size FROM {self.table}")  # noqa: S608
        size: int = row["size"]
        return size

    async def stored(self, epoch: str | None = EPOCH) -> list[Stored]:
        where = f"WHERE epoch = '{epoch}'" if epoch is not None else ""
        rows = await self.call(f'SELECT "offset", skipped, record FROM {self.table} {where} ORDER BY "offset"')  # noqa: S608
        return [Stored(row["offset"], row["skipped"], row["record"].encode()) for row in rows]


class NatsFar:
    in_mid_batch = f"{EPOCH}-2\r\n".encode()
    at_the_end = b"HPUB"

    def __init__(self, server: Server) -> None:
        self.server = server
        self.subject = f"relay{next(_numbers)}"

    def sink(self, port: int, **options: Any) -> NatsSink:
        options = {"create": True, "max_bytes": 8 * 1024**2, **options}
        return NatsSink(f"nats://127.0.0.1:{port}", subject=self.subject, stream=self.subject, **options)

    async def with_stream(self, act: Callable[[Any], Any]) -> Any:
        """The result of *act*, which gets the JetStream of a client."""
        import nats

        assert isinstance(self.server, NatsServer)
        client = await nats.connect(f"nats://127.0.0.1:{self.server.port}", allow_reconnect=False)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    async def size(self) -> int:
        async def count(stream: Any) -> int:
            from nats.js.errors import NotFoundError

            try:
                messages: int = (await stream.stream_info(self.subject)).state.messages
            except NotFoundError:
                return 0
            return messages

        size: int = await self.with_stream(count)
        return size

    async def messages(self) -> list[Any]:
        async def read(stream: Any) -> list[Any]:
            state = (await stream.stream_info(self.subject)).state
            return [await stream.get_msg(self.subject, seq) for seq in range(state.first_seq, state.last_seq + 1)]

        found: list[Any] = await self.with_stream(read)
        return found

    async def stored(self, epoch: str | None = EPOCH) -> list[Stored]:
        return [
            Stored(
                int(message.headers["Nats-Msg-Id"].rpartition("-")[2]),
                int(message.headers.get("Relay-Skipped", 0)),
                message.data,
            )
            for message in await self.messages()
            if epoch is None or message.headers["Nats-Msg-Id"].startswith(f"{epoch}-")
        ]


def _param(kind: str, there: object, package: str) -> Any:
    reason = f"no {kind} server is installed; on Debian: apt-get install {package}"
    return pytest.param(kind, marks=[getattr(pytest.mark, kind), pytest.mark.skipif(not there, reason=reason)])


FARS: Final = {
    "redis": _param("redis", shutil.which("redis-server") or shutil.which("valkey-server"), "redis-server"),
    "postgres": _param("postgres", POSTGRES, "postgresql"),
    "nats": _param("nats", shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin"), "nats-server"),
}
"""Each kind as a parameter of a test, with its mark; skipped where its server is not installed."""


class Notices:
    """The notices of a sink, and the number of records that it has stored; and a way to wait for either."""

    def __init__(self, sink: RemoteSink[Any]) -> None:
        self.texts: list[str] = []
        self._stored = 0
        self._news = asyncio.Event()
        settle: Any = sink._settle

        def settled(records: Sequence[Record], *rest: Any) -> None:
            settle(records, *rest)
            self._stored += len(records)
            self._news.set()

        cast(Any, sink)._settle = settled

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self._news.set()

    async def one_with(self, words: str) -> str:
        """The first notice that contains *words*, once there is one."""
        while True:
            for text in self.texts:
                if words in text:
                    return text
            await self._wait()

    async def stored(self, number: int) -> None:
        """Return once *number* records are stored."""
        while self._stored < number:
            await self._wait()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()


def quick(sink: RemoteSink[Any], drain_within: float = 600.0) -> Notices:
    """Let *sink* run on a clock on which 20 seconds pass in one, so that its pauses are short; return its notices.

    On that clock, leaving it waits *drain_within* seconds.
    """
    notices = Notices(sink)
    sink._drain_within = drain_within
    sink.bind(SystemClock(speed=20), notices, "far")
    return notices


def progress(numbers: Sequence[int] | range, job: str = "job_1") -> list[Record]:
    """Records of progress of one job, with these numbers as seq and as offset."""
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC)
    return [
        stamp(
            job,
            number,
            start + timedelta(seconds=number),
            Progress(percent=number % 100, status="running"),
            At(EPOCH, number),
        )
        for number in numbers
    ]


async def left_out_alone(far: Far, sink: RemoteSink[Any], records: Sequence[Record]) -> list[str]:
    """Hand over five *records*, of which the far end refuses the second, in batches of three; return the notices."""
    notices = quick(sink)
    async with sink:
        for record in records[:3]:
            sink(record)
        await notices.stored(3)
        for record in records[3:]:
            sink(record)

    assert [(row.offset, row.skipped) for row in await far.stored()] == [(1, 0), (3, 0), (4, 1), (5, 0)]
    assert sink.counts() == Counts(delivered=4, failed=1)
    return notices.texts
