"""Streams of a level: what lies between two records of it costs neither the loop nor who comes back anything."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from relay import Relay
from relay.events import Checking, Done, Log
from relay.jobs import Job
from relay.journal import Journal, MemoryJournal, SqliteJournal
from relay.testing import ManualClock
from tests.web.serving import serve

pytestmark = pytest.mark.usefixtures("take_over")


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return SqliteJournal(tmp_path / "relay.db") if request.param == "sqlite" else MemoryJournal()


@pytest.fixture
async def relay(journal: Journal) -> AsyncIterator[Relay]:
    async with Relay([], journal=journal, clock=ManualClock()) as relay:
        yield relay


def polled(relay: Relay, times: int, job: Job | None = None) -> Job:
    """A job of which an upstream was asked so often, and no more."""
    job = job or relay.registry.admit()
    with relay.bus.batch():
        for attempt in range(1, times + 1):
            relay.bus.publish(job, Checking(attempt=attempt, of=times))
    return job


async def lines_of(response: ClientResponse) -> AsyncGenerator[dict[str, object]]:
    async for line in response.content:
        yield json.loads(line)


async def until(response: ClientResponse, end: bytes) -> bytes:
    return await response.content.readuntil(end)


async def test_a_quiet_stream_of_a_level_says_now_and_then_how_far_it_has_come(relay: Relay) -> None:
    job = polled(relay, 700)
    epoch = relay.journal.epoch
    async with serve(relay, heartbeat=0.01) as client, client.get("/v1/events?level=error") as response:
        assert await response.content.readline() == b":\n"
        told = await until(response, b"\n\n")
        quiet = [await response.content.readline() for _ in range(2)]
        polled(relay, 3, job)
        again = (await until(response, b"\n\n")).lstrip(b":\n")
        relay.bus.publish(job, Log(line="oh", severity="error"))
        heard = (await until(response, b"\n\n")).lstrip(b":\n")
        after = [await response.content.readline() for _ in range(2)]

    assert told == f"retry: 2000\nevent: heartbeat\ndata: {{}}\nid: {epoch}-700\n\n".encode()
    assert quiet == [b":\n", b":\n"], "once it is said"
    assert again == told.replace(b"-700", b"-703")
    assert heard.endswith(f"\nid: {epoch}-704\n\n".encode())
    assert after == [b":\n", b":\n"]


async def test_who_sits_down_where_others_know_how_far_they_are_learns_it_too(relay: Relay) -> None:
    polled(relay, 5)
    async with serve(relay, heartbeat=0.01) as client, client.get("/v1/events?level=error") as first:
        told = await until(first, b"\n\n")
        await until(first, b":\n")
        async with client.get("/v1/events?level=error") as second:
            assert await until(second, b"\n\n") == told


async def test_a_stream_of_everything_beats_with_comments_alone(relay: Relay) -> None:
    """What it has come to is the id of its last record."""
    job = polled(relay, 5)
    async with serve(relay, heartbeat=0.01) as client:
        for path in ("/v1/events", f"/v1/jobs/{job.id}/events"):
            async with client.get(path) as response:
                for _ in range(5):
                    await until(response, b"\n\n")
                assert [await response.content.readline() for _ in range(3)] == [b":\n"] * 3


async def test_a_stream_of_json_lines_says_nothing_but_json_from_its_first_byte_on(relay: Relay) -> None:
    job = polled(relay, 5)
    epoch = relay.journal.epoch
    headers = {"Accept": "application/x-ndjson"}
    beat = {"type": "heartbeat", "position": f"{epoch}-5"}
    async with serve(relay, heartbeat=0.01) as client:
        async with client.get("/v1/events?level=error", headers=headers) as response:
            lines = lines_of(response)
            heard = [await anext(lines) for _ in range(3)]
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            heard += [await anext(line async for line in lines if line != beat)]
        async with client.get("/v1/events", headers=headers) as response:
            whole = lines_of(response)
            story = [await anext(whole) for _ in range(7)]

    assert heard[:3] == [beat, beat, beat]
    assert heard[3]["type"] == "done"
    assert [line.get("seq") for line in story] == [1, 2, 3, 4, 5, 6, None], "records first, where there are any"
    assert story[-1] == {"type": "heartbeat", "position": f"{epoch}-6"}


async def test_a_reader_of_errors_costs_what_it_gets_however_many_polls_lie_before_and_behind(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: how many records the journal hands out to ten readers that come, and come back."""
    handed_out: list[int] = []
    read = relay.journal.read

    def counted(*args: object, **options: object) -> object:
        records = read(*args, **options)  # type: ignore[arg-type]
        handed_out.append(len(records))
        return records

    job = polled(relay, 20_000)
    relay.bus.publish(job, Log(line="oh", severity="error"))
    polled(relay, 20_000, job)
    monkeypatch.setattr(relay.journal, "read", counted)
    async with serve(relay, heartbeat=3_600) as client:
        for path in ("/v1/events?level=error", f"/v1/jobs/{job.id}/events?level=error"):
            responses = await asyncio.gather(*(client.get(path) for _ in range(10)))
            blocks = [await until(response, b"\n\n") for response in responses]
            for response in responses:
                response.close()
            assert {block[block.index(b"event: ") :].splitlines()[2] for block in blocks} == {
                f"id: {relay.journal.epoch}-20001".encode()
            }

    assert sum(handed_out) <= 2 * 10
