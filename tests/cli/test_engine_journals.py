"""`relay audit` and `relay replay` of the journal of several nodes, at a real server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli import main
from relay.events import Record
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import EngineServer, running_engine

pytestmark = [pytest.mark.server, pytest.mark.redis]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[EngineServer]:
    with running_engine("redis") as made:
        yield made


@pytest.fixture
def records(server: EngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records of two jobs in the journal of the cluster `relay`; the folder of the test is the current one."""
    monkeypatch.chdir(tmp_path)

    async def write() -> list[Record]:
        await server.call("FLUSHALL")
        async with joined(server.url) as node:
            fence = await node.own()
            one, two = Story("one", fence), Story("two", fence)
            await node.append(*one.take(3), *two.take(2), one.end())
            await node.until(lambda: node.journal.head == 6)
            return list(node.journal.read(0))

    return asyncio.run(write())


def test_a_journal_is_printed_again_byte_by_byte(server: EngineServer, records: list[Record], capfd: Capture) -> None:
    assert main(["replay", server.url, "--speed", "0", "--level", "debug"]) == 0
    assert capfd.readouterr() == ("".join(f"{record.json.decode()}\n" for record in records), "")
    assert main(["replay", server.url, "--speed", "0", "--level", "debug", "--job", "two"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2


def test_an_address_that_is_a_secret_stays_one(
    server: EngineServer, records: list[Record], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", f"unix://ann:c4n4ry@{server.socket}")

    assert main(["audit", "env:URL"]) == 2
    assert main(["replay", "env:URL"]) == 2
    line = f"relay: {server.socket} does not accept the user or the password of the URL; correct them\n"
    assert capfd.readouterr() == ("", line + line)


def test_a_journal_alone_is_examined(server: EngineServer, records: list[Record], capfd: Capture) -> None:
    assert main(["audit", server.url]) == 0
    place = server.socket
    said = f"{place} holds 2 jobs, 6 records without a hole, each of the owner of its job\n"
    assert capfd.readouterr() == (said, "")

    asyncio.run(server.call("HDEL", "{relay}:j:" + records[0].position.epoch, "two"))
    assert main(["audit", server.url]) == 1
    assert capfd.readouterr() == (f"{place}: two runs, and has no state\n", "")


def test_a_journal_is_a_recording_like_any_other(server: EngineServer, records: list[Record], capfd: Capture) -> None:
    console = Path("console.jsonl")
    console.write_bytes(b"".join(record.json + b"\n" for record in records))
    assert main(["audit", server.url, "console.jsonl"]) == 0
    assert capfd.readouterr().out.splitlines()[1:] == ["2 recordings hold the same story: 2 jobs, 6 records"]

    console.write_bytes(b"".join(record.json + b"\n" for record in records if record.seq != 2))
    assert main(["audit", server.url, "console.jsonl"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert len(out) == 2
    assert out[0].startswith(f"one seq 2: {server.socket} says log ")


def test_a_journal_that_is_not_there_is_a_mistake(server: EngineServer, records: list[Record], capfd: Capture) -> None:
    for command in (["audit", server.url], ["replay", server.url]):
        assert main([*command, "--cluster", "other"]) == 2
        assert f"there is no journal of a cluster 'other' at {server.socket}" in capfd.readouterr().err
