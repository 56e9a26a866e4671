"""The client of an engine on real servers: what it repeats, how long it waits, and what it says of each failure."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from relay.errors import ConfigError, JournalError
from relay.journal.redis._client import EngineClient
from relay.journal.redis._place import read_url
from tests.journal.redis.servers import ENGINES, EngineServer, running_engine, until

CANARY = "c4n4ry"
PATIENT = 20.0
"""Seconds for an answer that comes: more than a busy machine takes."""


@asynccontextmanager
async def connected(url: str, *, read_timeout: float = PATIENT) -> AsyncIterator[EngineClient]:
    client = EngineClient(read_url(url), read_timeout=read_timeout)
    try:
        yield client
    finally:
        await client.close()


async def failure(client: EngineClient, *command: str) -> tuple[str, str]:
    """The kind and the words of the error of *command*, at the opening."""
    with pytest.raises((JournalError, ConfigError)) as caught:
        async with client.talk(opening=True) as redis:
            await cast("Any", redis).execute_command(*command)
    assert CANARY not in f"{caught.value!r}"
    assert caught.value.__suppress_context__
    return type(caught.value).__name__, str(caught.value)


async def is_reading(server: EngineServer) -> bool:
    return b"cmd=xread" in await server.call("CLIENT", "LIST")


async def is_gone(server: EngineServer, number: int) -> bool:
    return f"id={number} ".encode() not in await server.call("CLIENT", "LIST")


async def has_failed_to_save(server: EngineServer) -> bool:
    return b"rdb_last_bgsave_status:err" in await server.call("INFO", "persistence")


@pytest.fixture(params=ENGINES)
def own(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """A server that the test may kill and set as it likes."""
    with running_engine(request.param) as server:
        yield server


async def test_a_command_without_an_answer_is_not_repeated(own: EngineServer) -> None:
    async with connected(own.url, read_timeout=0.2) as client:
        async with client.talk() as redis:
            await redis.incr("n")
        own.freeze()
        said = await failure(client, "INCR", "n")
        own.thaw()

    assert said == ("JournalError", f"{own.socket} gave no answer in time; the relay goes on once it does")
    # It was on its way, and is executed once the server goes on: the outcome was unknown, not a failure.
    assert int(await own.call("GET", "n")) in (1, 2)


async def test_after_a_restart_the_next_command_connects_anew(own: EngineServer) -> None:
    async with connected(own.url) as client:
        async with client.talk() as redis:
            await redis.ping()
        own.kill()
        kind, words = await failure(client, "PING")
        own.start()
        async with client.talk() as redis:
            assert await redis.ping()

    assert kind == "JournalError"
    assert re.match(rf"{own.socket} cannot be reached: .*; the relay goes on once it can$", words)


async def test_a_cancelled_read_takes_no_answer_of_a_later_command(engine: EngineServer) -> None:
    async with connected(engine.url) as client:

        async def read() -> None:
            async with client.talk() as redis:
                await redis.xread({"none": "0"}, block=15_000)

        reading = asyncio.create_task(read())
        await until(lambda: is_reading(engine))
        reading.cancel()
        await asyncio.wait([reading])
        async with client.talk() as redis:
            assert await redis.echo("mine") == b"mine"


async def test_a_second_caller_waits_for_the_one_connection(engine: EngineServer) -> None:
    async with connected(engine.url) as client:

        async def count() -> int:
            async with client.talk() as redis:
                return int(await redis.incr("n"))

        assert sorted(await asyncio.gather(*(count() for _ in range(20)))) == [*range(1, 21)]


async def test_closing_twice_does_nothing_and_frees_the_connections(engine: EngineServer) -> None:
    client = EngineClient(read_url(engine.url), read_timeout=PATIENT)
    async with client.talk() as redis:
        number = await redis.client_id()
    await client.close()
    await client.close()

    await until(lambda: is_gone(engine, number))


async def test_a_server_that_is_full_says_so_within_a_script(engine: EngineServer) -> None:
    await engine.call("CONFIG", "SET", "maxmemory", "1")
    async with connected(engine.url) as client:
        kind, words = await failure(client, "EVAL", "return redis.call('SET', 'a', 'b')", "0")

    assert (kind, words) == (
        "JournalError",
        f"{engine.socket} has reached its maxmemory, and stores nothing more; raise maxmemory, or let [journal] keep"
        " less",
    )


async def test_a_replica_is_left_for_the_primary(own: EngineServer) -> None:
    async with connected(own.url) as client:
        async with client.talk() as redis:
            before = await redis.client_id()
        await own.call("REPLICAOF", "127.0.0.1", "1")
        kind, words = await failure(client, "EVAL", "return redis.call('SET', 'a', 'b')", "0")
        await own.call("REPLICAOF", "NO", "ONE")
        async with client.talk() as redis:
            assert await redis.client_id() != before

    assert kind == "JournalError"
    assert "is a replica, which accepts no write; the relay looks for the primary again" in words


async def test_a_blocked_read_ends_once_its_server_is_no_primary_any_more(own: EngineServer) -> None:
    async with connected(own.url) as client:
        reading = asyncio.create_task(failure(client, "XREAD", "BLOCK", "15000", "STREAMS", "s", "0"))
        await until(lambda: is_reading(own))
        await own.call("REPLICAOF", "127.0.0.1", "1")
        kind, words = await reading

    assert (kind, words) == (
        "JournalError",
        f"{own.socket} is no primary any more; the relay looks for the new one",
    )


async def test_a_server_that_cannot_save_says_so(own: EngineServer) -> None:
    (own.folder / "dump.rdb").mkdir()
    await own.call("CONFIG", "SET", "save", "3600 1")
    await own.call("SET", "a", "b")
    await own.call("BGSAVE")
    await until(lambda: has_failed_to_save(own))
    async with connected(own.url) as client:
        kind, words = await failure(client, "SET", "a", "c")

    assert kind == "JournalError"
    assert "cannot save its data to disk, and accepts no write until it can; look at its log and its disk" in words


async def test_a_wrong_password_is_not_tried_again(engine: EngineServer) -> None:
    async with connected(f"unix://ann:{CANARY}@{engine.socket}") as client:
        said = await failure(client, "PING")
        with pytest.raises(JournalError, match="does not accept the user"):
            async with client.talk() as redis:
                await redis.ping()

    assert said == (
        "ConfigError",
        f"{engine.socket} does not accept the user or the password of the URL; correct them",
    )


async def test_a_command_that_is_not_permitted_is_named(engine: EngineServer) -> None:
    await engine.call("ACL", "SETUSER", "least", "reset", "on", f">{CANARY}", "~*", "+ping")
    async with connected(f"unix://least:{CANARY}@{engine.socket}") as client:
        kind, words = await failure(client, "XADD", "s", "*", "a", CANARY)

    assert kind == "ConfigError"
    assert "does not permit its user a command that the relay needs" in words
    assert "xadd" in words


async def test_a_key_of_another_program_is_left_alone(engine: EngineServer) -> None:
    await engine.call("SET", "s", "theirs")
    async with connected(engine.url) as client:
        kind, words = await failure(client, "XADD", "s", "*", "a", "b")

    assert kind == "ConfigError"
    assert "has a key of the relay's name with data of another program" in words
    assert await engine.call("GET", "s") == b"theirs"


async def test_a_database_that_the_server_has_not_is_refused(engine: EngineServer) -> None:
    async with connected(f"{engine.url}?db=999") as client:
        kind, words = await failure(client, "PING")

    assert (kind, words) == (
        "ConfigError",
        f"{engine.socket} has no database of this number; correct the end of the URL; a cluster has only 0",
    )


@pytest.mark.server
async def test_another_service_at_the_port_is_no_engine() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(f"redis://127.0.0.1:{port}") as client:
            said = await failure(client, "PING")

    assert said == (
        "ConfigError",
        f"127.0.0.1:{port} does not speak the protocol of Redis; correct host and port of the URL",
    )


@pytest.mark.server
async def test_a_server_without_tls_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-ERR Protocol error\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connected(f"rediss://127.0.0.1:{port}") as client:
            said = await failure(client, "PING")

    assert said == (
        "ConfigError",
        f"127.0.0.1:{port} does not speak TLS; give it a certificate, or begin the URL with redis://",
    )


async def test_a_port_that_nobody_listens_at_can_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with connected(f"redis://ann:{CANARY}@127.0.0.1:{port}") as client:
        kind, words = await failure(client, "PING")

    assert kind == "JournalError"
    assert words.startswith(f"127.0.0.1:{port} cannot be reached: ")


@contextmanager
def encrypted(folder: Path, host: str) -> Iterator[int]:
    """The port of a server with a certificate for *host*, whose authority is in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pem = str(folder / "server.pem")
    options = ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no", "--tls-port", str(port)]
    with running_engine("redis", *options, "--tls-ca-cert-file", str(folder / "ca.pem")):
        yield port


@pytest.mark.server
@pytest.mark.redis
async def test_over_tls_the_certificate_of_the_server_is_verified(tmp_path: Path) -> None:
    with encrypted(tmp_path, "127.0.0.1") as port:
        url = f"rediss://127.0.0.1:{port}"
        async with connected(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}") as client, client.talk() as redis:
            assert await redis.ping()
        async with connected(url) as client:
            kind, words = await failure(client, "PING")

    assert kind == "ConfigError"
    assert words.startswith(f"the certificate of 127.0.0.1:{port} is not accepted: ")
    assert words.endswith(
        "; name the file of its authority as ssl_ca_certs in the URL, and the host as the certificate does"
    )


@pytest.mark.server
@pytest.mark.redis
async def test_over_tls_a_certificate_for_another_host_is_not_accepted(tmp_path: Path) -> None:
    with encrypted(tmp_path, "other.example") as port:
        async with connected(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}") as client:
            kind, words = await failure(client, "PING")

    assert kind == "ConfigError"
    assert "127.0.0.1" in words.partition(" is not accepted: ")[2]


def test_a_file_for_tls_that_cannot_be_read_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"url has ssl_ca_certs with a file that cannot be read: No such file"):
        EngineClient(read_url(f"rediss://host?ssl_ca_certs={tmp_path / 'none'}"), read_timeout=1)
