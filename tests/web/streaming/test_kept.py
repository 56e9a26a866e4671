"""`?follow=false`: the kept records of a filter, and then the end of the stream."""

import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from relay import Relay
from relay.events import Failed, Log
from relay.jobs import Job
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.web.serving import serve


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay that keeps the newest ten records, and in which nothing happens but what a test makes happen."""
    async with Relay([], journal=MemoryJournal(Retention(records=10)), clock=ManualClock()) as relay:
        yield relay


def say(relay: Relay, job: Job, *lines: str) -> None:
    for line in lines:
        relay.bus.publish(job, Log(line=line))


async def read(client: ClientSession, query: str, **headers: str) -> list[tuple[str, str]]:
    """Each block of the whole stream: its event, and the text of a record or the data of a notice."""
    async with client.get(f"/v1/events?follow=false{query}", headers=headers) as response:
        assert response.status == 200
        blocks = [block.splitlines() for block in (await response.text()).split("\n\n") if "event:" in block]
    found = []
    for block in blocks:
        parts = (line.partition(": ") for line in block if not line.startswith(":"))
        fields = {name: value for name, _, value in parts}
        data = json.loads(fields["data"])
        found.append((fields["event"], data.get("text") or fields["data"]))
    return found


async def test_the_stream_ends_when_the_client_has_every_kept_record(relay: Relay) -> None:
    job = relay.registry.admit()
    say(relay, job, "one", "two", "three")
    async with serve(relay) as client:
        assert await read(client, "") == [("log", "one"), ("log", "two"), ("log", "three")]
        assert await read(client, f"&job={job.id}") == [("log", "one"), ("log", "two"), ("log", "three")]
        assert await read(client, "", **{"Last-Event-ID": f"{relay.journal.epoch}-2"}) == [("log", "three")]
        assert await read(client, "&level=error") == [("heartbeat", "{}")]


async def test_records_that_are_no_longer_kept_are_a_gap_and_the_kept_ones_follow(relay: Relay) -> None:
    first, second = relay.registry.admit(), relay.registry.admit()
    say(relay, first, *map(str, range(15)))
    relay.bus.publish(second, Failed(kind="lost", message="no result"))
    epoch = relay.journal.epoch
    kept = [("log", str(number)) for number in range(6, 15)]
    failed = ("failed", "failed (lost): no result")
    async with serve(relay) as client:
        assert await read(client, "") == [("gap", f'{{"from":"{epoch}-0","to":"{epoch}-6","missed":6}}'), *kept, failed]
        assert await read(client, "", **{"Last-Event-ID": f"{epoch}-2"}) == [
            ("gap", f'{{"from":"{epoch}-2","to":"{epoch}-6","missed":4}}'),
            *kept,
            failed,
        ]
        assert await read(client, f"&job={first.id}") == [
            ("gap", f'{{"from":"{epoch}-0","to":"{epoch}-6","missed":null}}'),
            *kept,
        ]
        assert await read(client, f"&job={second.id}") == [failed]


async def test_json_lines_of_the_past_end_too(relay: Relay) -> None:
    say(relay, relay.registry.admit(), "one", "two")
    async with serve(relay) as client:
        answer = await client.get("/v1/events?follow=false", headers={"Accept": "application/x-ndjson"})
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line.get("text") for line in lines] == ["one", "two", None]
    assert lines[-1] == {"type": "heartbeat", "position": f"{relay.journal.epoch}-2"}


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_program_that_fetches_goes_on_from_where_its_last_answer_ended(relay: Relay, accept: str) -> None:
    job = relay.registry.admit()

    async def fetch(position: str) -> tuple[list[str], str]:
        headers = {"Accept": accept, "Last-Event-ID": position}
        answer = await (await client.get("/v1/events?follow=false&level=warning", headers=headers)).text()
        return re.findall(r'"text":"(.*?)"', answer), re.findall(r'(?:id: |"position":")([\w-]+)', answer)[-1]

    async with serve(relay) as client:
        texts, position = await fetch("")
        assert (texts, position) == ([], f"{relay.journal.epoch}-0")
        say(relay, job, "one", "two")
        texts, position = await fetch(position)
        assert (texts, position) == ([], f"{relay.journal.epoch}-2")
        say(relay, job, *map(str, range(30)))
        relay.bus.publish(job, Failed(kind="lost", message="no result"))
        texts, position = await fetch(f"{relay.journal.epoch}-32")
        assert (texts, position) == (["failed (lost): no result"], f"{relay.journal.epoch}-33")


async def test_follow_is_true_or_false(relay: Relay) -> None:
    async with serve(relay) as client:
        answer = await client.get("/v1/events?follow=maybe")
        assert (answer.status, (await answer.json())["detail"]) == (
            400,
            "follow is true, or false for the kept records alone",
        )
