"""An access ends when it should, and shows nothing of others. What docs/explanation/threat-model.md accepts is so."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse
from msgspec.structs import replace

from relay import Relay
from relay.events import Log
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.access.keys import ANN, BOB, READER, SETTINGS, bearer
from tests.web.access.test_access import Served, served
from tests.web.access.test_threats import a_ticket, signed_in
from tests.web.serving import serve_app
from web import GUARD, create_app


@pytest.fixture
async def relay() -> AsyncIterator[Served]:
    async with served() as one:
        yield one


# What others must not learn


async def test_a_gap_counts_nothing_of_jobs_that_its_reader_does_not_see() -> None:
    clock = ManualClock()
    relay = Relay(
        [TwoStep(story({"t": RUNNING}))], clock=clock, journal=MemoryJournal(keep=Retention(records=20, age=3_600))
    )
    async with serve_app(create_app(relay, access=SETTINGS, send_timeout=3_600, slow_after=3_600)) as client:
        bobs = relay.registry.admit(owner="key:bob")
        relay.bus.publish(bobs, Log(line="bob 0"))
        anns = relay.registry.admit(owner="key:ann")
        for number in range(100):
            relay.bus.publish(anns, Log(line=f"canary {number}"))
        heard = {}
        for key in (BOB, READER):
            headers = bearer(key) | {"Last-Event-ID": f"{relay.journal.epoch}-1", "Accept": "application/x-ndjson"}
            answer = await client.get("/v1/events?follow=false", headers=headers)
            heard[key] = await answer.text()

    assert '"missed":null' in heard[BOB]
    assert "canary" not in heard[BOB]
    assert anns.id not in heard[BOB]
    assert '"missed":null' not in heard[READER]


async def test_the_record_of_use_names_subject_and_address_and_no_credential(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as relay:
        job = await relay.follow(ANN)
        cookie, ticket = await signed_in(relay), await a_ticket(relay)
        await relay.client.post(f"/v1/jobs/{job}/cancel", headers=bearer(ANN))
        await relay.get("/v1/jobs", ANN[:-1] + "X")
        await relay.get("/metrics", ANN)
        await relay.get(f"/v1/jobs?ticket={ticket}", Cookie=cookie)
        await relay.get("/v1/events?ticket=rlt_canary")

    said = "\n".join(caplog.messages)
    assert f"key:ann at 127.0.0.1 follows {job} at scripted" in said
    assert f"key:ann at 127.0.0.1 cancelled {job}" in said
    assert "127.0.0.1 was refused (401)" in said
    for secret in (ANN, ANN[:-1], BOB, cookie.partition("=")[2], ticket, "canary"):
        assert secret not in said


# What ends, and what is accepted


async def test_whatever_was_issued_to_a_subject_ends_with_its_revocation(relay: Served) -> None:
    cookie, unused = await signed_in(relay), await a_ticket(relay)
    stream = await relay.get("/v1/events", Cookie=cookie, Accept="text/event-stream")
    await stream.content.readline()

    relay.app[GUARD].revoke(subject="key:ann")

    assert b"event: denied" in await stream.content.read()
    assert (await relay.get("/v1/jobs", Cookie=cookie)).status == 401
    assert (await relay.get("/v1/events", Cookie=cookie)).status == 204
    assert (await relay.get(f"/v1/events?ticket={unused}")).status == 204


async def test_a_key_that_is_taken_out_of_the_configuration_ends_all_that_was_made_with_it(relay: Served) -> None:
    cookie, unused = await signed_in(relay), await a_ticket(relay)
    stream = await relay.get("/v1/events", ANN, Accept="text/event-stream")
    await stream.content.readline()

    relay.app[GUARD].reload(replace(SETTINGS, keys=SETTINGS.keys[1:]))

    assert b"event: denied" in await stream.content.read()
    assert (await relay.get("/v1/jobs", ANN)).status == 401
    assert (await relay.get("/v1/jobs", Cookie=cookie)).status == 401
    assert (await relay.get(f"/v1/events?ticket={unused}")).status == 204
    assert (await relay.get("/v1/jobs", BOB)).status == 200


async def test_accepted_a_restart_with_the_same_signing_key_forgets_revocations(relay: Served) -> None:
    cookie = await signed_in(relay)
    relay.app[GUARD].revoke(subject="key:ann")
    assert (await relay.get("/v1/jobs", Cookie=cookie)).status == 401

    async with served() as restarted:
        assert (await restarted.get("/v1/jobs", Cookie=cookie)).status == 200


async def test_without_a_signing_key_a_restart_ends_sessions_and_links() -> None:
    settings = replace(SETTINGS, signing_key=None)
    async with served(settings) as relay:
        cookie = await signed_in(relay)
    async with served(settings) as restarted:
        assert (await restarted.get("/v1/jobs", Cookie=cookie)).status == 401


async def test_accepted_a_logout_ends_no_stream_and_a_restart_forgets_it(relay: Served) -> None:
    cookie = await signed_in(relay)
    stream = await relay.get("/v1/events", Cookie=cookie, Accept="text/event-stream")
    await stream.content.readline()

    logout = await relay.client.delete("/v1/session", headers={"Cookie": cookie})

    assert (logout.status, "Max-Age=0" in logout.headers["Set-Cookie"]) == (204, True)
    assert (await relay.get("/v1/jobs", Cookie=cookie)).status == 401
    job = await relay.follow(ANN)
    assert f'"job":"{job}"'.encode() in await _data(stream)
    async with served() as restarted:
        assert (await restarted.get("/v1/jobs", Cookie=cookie)).status == 200


async def _data(stream: ClientResponse) -> bytes:
    """The next line of data of an open stream."""
    while not (line := await stream.content.readline()).startswith(b"data:"):
        assert line, "the stream has ended"
    return line


async def test_accepted_ids_are_positions_of_the_whole_relay_and_count_its_records(relay: Served) -> None:
    await relay.follow(BOB)
    await relay.follow(ANN, "t1")

    async with relay.client.get("/v1/events", headers=bearer(ANN) | {"Accept": "text/event-stream"}) as stream:
        lines = [await stream.content.readline() for _ in range(4)]

    assert int(lines[-1].decode().removeprefix("id: ").rpartition("-")[2]) > 1, "bob's record was counted, and no more"
