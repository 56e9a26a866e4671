"""Whatever a request holds, it is answered, and the streams and submissions of others go on."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay import Relay
from relay.journal import SqliteJournal
from relay.testing import ManualClock
from tests.relay.scripted import TwoStep, story
from tests.web.serving import serve

BODY = b'{"upstream": "scripted", "input": {"prompt": "a cat"}}'
MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def upstream() -> TwoStep:
    return TwoStep(story({}))


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
async def relay(path: Path, upstream: TwoStep, notices: list[str]) -> AsyncIterator[Relay]:
    with closing(SqliteJournal(path, notify=notices.append)) as journal:
        yield Relay([upstream], clock=ManualClock(), journal=journal, notify=notices.append)


@pytest.fixture
async def client(relay: Relay) -> AsyncIterator[ClientSession]:
    async with serve(relay) as client:
        yield client


async def posted(client: ClientSession, key: bytes, body: bytes = BODY) -> tuple[int, dict[str, Any]]:
    """The answer to a submission whose bytes are our own: a client library would not send them."""
    base = client._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    writer.write(
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (key, len(body), body)
    )
    answer = await reader.read()
    writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text) if text.startswith(b"{") else {}


async def goes_on(client: ClientSession, relay: Relay) -> None:
    """A submission by somebody else is taken, committed, and readable as a stream."""
    answer = await client.post("/v1/jobs", data=BODY, headers={"Content-Type": "application/json"})
    assert answer.status == 201
    job = (await answer.json())["job"]
    assert [record.seq for record in relay.journal.read(0, [job])][:1] == [1]
    async with client.get(f"/v1/jobs/{job}/events") as stream:
        assert (await stream.content.readline()).strip(b":\n") in (b"", b"event: accepted")
    assert (await client.get("/readyz")).status == 200


WRONG = "an Idempotency-Key has 1 to 255 characters that print, in UTF-8"


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (b"caf\xe9", WRONG),
        (b"\xff", WRONG),
        (b"\xed\xa0\x80", WRONG),
        ("a\u0085b".encode(), WRONG),
        ("a\u202eb".encode(), WRONG),
        (b"k" * 256, WRONG),
        (b"a\x00b", None),
        (b"a\x01b", None),
        (b"k" * 8_000, WRONG),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_key_that_cannot_be_kept_is_400_in_a_sentence_and_stops_nobody(
    client: ClientSession, relay: Relay, upstream: TwoStep, notices: list[str], key: bytes, detail: str | None
) -> None:
    for _ in range(2):
        status, problem = await posted(client, key)
        assert status == 400
        assert detail is None or problem["detail"] == detail
    assert relay.jobs() == []
    await goes_on(client, relay)
    assert (len(upstream.submitted), notices) == (1, [])


async def test_a_key_in_utf_8_is_kept_as_it_is_also_across_a_restart(
    client: ClientSession, relay: Relay, path: Path
) -> None:
    key = "café \U0001f600".encode()
    assert [(await posted(client, key))[0] for _ in range(2)] == [201, 200]
    relay.journal.close()
    with closing(SqliteJournal(path)) as journal:
        assert [job.key for job in journal.recover()] == [key.decode()]


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b'{"upstream": "scripted", "input": {"prompt": "\\ud800"}}', {400}),
        (b'{"upstream": "scripted", "input": {"prompt": "a\\u0000b"}}', {201}),
        (b'{"upstream": "scripted", "input": {"n": 123456789012345678901234567890}}', {201}),
        (b'{"upstream": "scripted", "input": {"n": 1e400}}', {400}),
        (b'{"upstream": "scripted", "input": {"prompt": "\xff"}}', {400}),
        (b'{"upstream": "scripted", "input": {"\\u0000": {"": [null]}}}', {201}),
        (b'{"upstream": "a\\u0000b", "input": {}}', {400}),
        (b'{"upstream": "' + b"u" * (MIB - 100) + b'", "input": {}}', {400}),
        (b'{"upstream": "scripted", "task": "\\u0000"}', {400}),
        (b'{"upstream": "scripted", "task": "' + b"t" * (MIB - 100) + b'"}', {400}),
        (b'{"upstream": "scripted", "input": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", {400}),
        (b'{"upstream": "scripted", "input": {"p": "' + b"x" * (MIB - 100) + b'"}}', {201}),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_whatever_a_body_holds_it_is_taken_or_400_and_stops_nobody(
    client: ClientSession, relay: Relay, notices: list[str], body: bytes, statuses: set[int]
) -> None:
    status, problem = await posted(client, b"k", body)

    assert status in statuses
    assert len(json.dumps(problem)) < 2_000
    await goes_on(client, relay)
    assert notices == []


@pytest.mark.parametrize("task", ["", "\ud800", "t" * 8_193, None, 7])
async def test_an_id_from_an_upstream_that_no_record_can_hold_ends_its_job_alone(
    client: ClientSession, relay: Relay, upstream: TwoStep, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    async def submit(_: Mapping[str, Any]) -> Any:
        return task

    with monkeypatch.context() as patch:
        patch.setattr(upstream, "submit", submit)
        _, snapshot = await posted(client, b"k")
        async with client.get(f"/v1/jobs/{snapshot['job']}/events") as stream:
            await stream.read()
    await goes_on(client, relay)

    text = relay.job(snapshot["job"]).state.text
    assert text.startswith(
        "failed (malformed): submitted, but the upstream's id of the task is none that can be used: a "
    )


@pytest.mark.parametrize("value", ["\udce9", "\x00", "\xff" * 300, "a" * 5_000])
async def test_a_key_given_in_python_is_checked_as_well(relay: Relay, client: ClientSession, value: str) -> None:
    with pytest.raises(Exception, match="Idempotency-Key has 1 to 255"):
        relay.submit("scripted", {}, key=value)
    with pytest.raises(Exception, match="no upstream is called"):
        relay.submit(value, {})
    with pytest.raises(Exception, match="a task id is"):
        relay.follow("scripted", value)
    await goes_on(client, relay)


@pytest.mark.parametrize(
    "input",
    [{"p": "\ud800"}, {1: 2}, {"p": object()}],
    ids=["half a surrogate pair", "a key that is no text", "an object of Python"],
)
async def test_an_input_that_is_no_json_is_refused_in_python(relay: Relay, client: ClientSession, input: Any) -> None:
    with pytest.raises(Exception, match="the input cannot be sent as JSON"):
        relay.submit("scripted", input, key="k")
    await goes_on(client, relay)
