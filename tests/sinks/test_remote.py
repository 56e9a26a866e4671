"""Sinks that write to a server, without one: their settings, their addresses, and what they never show."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from relay.cli.redaction import redactor_of
from relay.config import load
from relay.errors import ConfigError, UsageError
from relay.queue import Counts, RetryLater
from relay.testing import sample_records
from sinks import NatsSink, PostgresSink, RedisSink
from sinks.kinds import SINK_KINDS, make_sink, sink_class
from sinks.postgres import SCHEMA

CANARY = "c4n4ry"
KINDS: dict[str, tuple[Any, str]] = {
    "redis": (RedisSink, "redis://ann:{}@127.0.0.1:{}/0"),
    "postgres": (PostgresSink, "postgresql://ann:{}@127.0.0.1:{}/postgres?sslmode=disable"),
    "nats": (NatsSink, "nats://ann:{}@127.0.0.1:{}"),
}
EXTRA_OF = {"redis": "redis", "postgres": "asyncpg", "nats": "nats"}


def sink_of(kind: str, port: int = 1, **options: Any) -> Any:
    made, url = KINDS[kind]
    return made(url.format(CANARY, port), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_the_configuration_makes_the_sink(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f'[[sinks]]\nkind = "{kind}"\nurl = "env:URL"\nlinger = "20ms"\nbatch = 7\nlevel = "info"\n')

    [configured] = load(path, {"URL": KINDS[kind][1].format(CANARY, 5)}, SINK_KINDS).sinks
    sink = make_sink(cast(Any, configured.settings))

    assert type(sink) is sink_class(kind) is KINDS[kind][0]
    assert (sink.batch, repr(sink)) == ((7, 0.02), f"{type(sink).__name__}(127.0.0.1:5)")
    assert CANARY not in f"{configured} {sink.__dict__}"


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_in_the_configuration_itself_is_refused_unseen(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f'[[sinks]]\nkind = "{kind}"\nurl = "{KINDS[kind][1].format(CANARY, 5)}"\n')

    with pytest.raises(ConfigError, match="url is a secret") as caught:
        load(path, {}, SINK_KINDS)

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{canary}", "url begins with none of"),
        ("http://ann:{canary}@host", "url begins with none of"),
        ("{scheme}://ann:{canary}@", "url has no host"),
        ("{scheme}://ann:{canary}@host:99999", "url has a host or port that cannot be one"),
        ("{scheme}://ann:{canary}@host:{canary}", "url has a host or port that cannot be one"),
        ("{scheme}://ann:{canary}/x@host", "url has a host or port that cannot be one"),
        ("{scheme}://ann:{canary}#x@host", "url has a '#' in it"),
        ("{scheme}://ann:{canary} x@host", "url has white space in it"),
        ("{scheme}://ann:{canary}@[::1", "url is no address"),
        ("{scheme}://ann:x@host/0?{canary}=1", "url has an option behind '?' that is not known"),
        ("{scheme}://ann:x@host/0?{canary}", "url is no address"),
    ],
)
def test_what_is_no_address_is_refused_without_a_word_of_it(kind: str, url: str, words: str) -> None:
    scheme = KINDS[kind][1].partition(":")[0]

    with pytest.raises(ConfigError) as caught:
        KINDS[kind][0](url.format(scheme=scheme, canary=CANARY))

    assert str(caught.value).startswith(words)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://host/one", "url has a path that is no number of a database"),
        ("redis://a,b/0", "url names several hosts"),
        ("redis:///0", "url has no host"),
    ],
)
def test_an_address_that_a_stream_cannot_be_at_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RedisSink(url)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_nobody_listens_for_is_named_without_the_password(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    sink = sink_of(kind, port)

    with pytest.raises(RetryLater) as caught:
        await sink.work(sample_records()[:1])

    assert str(caught.value).startswith(f"127.0.0.1:{port}: ")
    assert "onnect" in str(caught.value)
    assert CANARY not in f"{caught.value!r} {sink!r}"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", KINDS)
async def test_another_service_at_the_port_is_a_failure_that_can_be_tried_again(kind: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.write_eof()
        await reader.read(65536)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        sink = sink_of(kind, server.sockets[0].getsockname()[1])
        with pytest.raises(RetryLater) as caught:
            await sink.work(sample_records()[:1])
        await sink._closed()

    assert CANARY not in f"{caught.value!r}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_is_not_installed_is_named_with_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == EXTRA_OF[kind]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, EXTRA_OF[kind], None)

    with pytest.raises(ConfigError, match=rf'pip install "progress-relay\[{kind}\]"'):
        sink_of(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_client_is_imported_before_there_is_a_sink(kind: str) -> None:
    import subprocess

    program = f"import sys, sinks.{kind}; sys.exit({EXTRA_OF[kind]!r} in sys.modules)"

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_records_wait_and_the_oldest_give_way_while_there_is_no_server(kind: str) -> None:
    sink = sink_of(kind, capacity=5)

    for record in sample_records()[:8]:
        sink(record)

    assert sink.counts() == Counts(waiting=5, dropped=3)


@pytest.mark.parametrize("name", ["records; DROP TABLE x", 'a"b', "a.b.c", "", "1st", "x" * 60, "tab\n"])
def test_a_table_is_a_plain_name(name: str) -> None:
    with pytest.raises(UsageError, match="table must be the name of a table"):
        PostgresSink("postgresql://host", table=name)


@pytest.mark.parametrize("subject", ["relay.*", "relay.>", "", ".relay", "relay.", "a b", "a..b", "a\n"])
def test_a_subject_has_no_wildcard_and_no_empty_word(subject: str) -> None:
    with pytest.raises(UsageError, match="subject must be words"):
        NatsSink("nats://host", subject=subject)


PAGES = Path(__file__).parents[2] / "docs/reference/sinks"


def test_the_page_of_postgres_has_the_schema_as_it_is() -> None:
    assert f"```sql\n{SCHEMA}```\n" in (PAGES / "postgres.md").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_of_a_server_may_be_shown_and_its_password_may_not(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f'[[sinks]]\nkind = "{kind}"\nurl = "env:URL"\n')
    settings = load(path, {"URL": KINDS[kind][1].format(f"{CANARY}%2Fx", 5)}, SINK_KINDS)

    hide = redactor_of(settings)

    assert hide("http://127.0.0.1:5443/ serves") == "http://127.0.0.1:5443/ serves"
    assert hide(f"at 127.0.0.1:5: {CANARY}%2Fx and {CANARY}/x") == "at 127.0.0.1:5: *** and ***"
