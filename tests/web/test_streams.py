"""Streams as production serves them: an AppRunner that cancels no handler, real sockets, clients that misbehave."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.web import AppRunner, TCPSite

from relay import Relay
from relay.events import Done, Exchange, Log, Position
from relay.jobs import Job
from relay.journal import Keep, MemoryJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, story
from tests.web.serving import serve, serve_app
from web import create_app
from web.keys import STREAMS


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay whose clock stands still: nothing happens but what a test makes happen."""
    async with Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock()) as relay:
        yield relay


def job_of(relay: Relay, records: int = 1) -> Job:
    """A job with that many records, and no poller at work on it."""
    job = relay._admit()
    for number in range(records):
        relay.bus.publish(job, Log(line=f"line {number + 1}"))
    return job


async def read_blocks(response: ClientResponse) -> AsyncGenerator[dict[str, str]]:
    """Each block as it arrives, as fields; comments are left out."""
    block: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and name != ":":
            block[name] = value
        elif not name and block:
            yield block
            block = {}


async def events_of(response: ClientResponse) -> list[str]:
    return [block["event"] async for block in read_blocks(response)]


async def test_a_stream_is_not_to_be_cached_buffered_or_guessed(relay: Relay) -> None:
    async with serve(relay) as client, client.get("/v1/events") as response:
        names = ("Content-Type", "Cache-Control", "X-Accel-Buffering", "X-Content-Type-Options", "Content-Encoding")
        assert [response.headers.get(name) for name in names] == [
            "text/event-stream",
            "no-store",
            "no",
            "nosniff",
            None,
        ]


async def test_a_quiet_stream_beats_with_a_bare_comment_line(relay: Relay) -> None:
    async with serve(relay, heartbeat=0.01) as client, client.get("/v1/events") as response:
        assert [await response.content.readline() for _ in range(4)] == [b":\n"] * 4


async def test_a_stream_of_one_job_ends_after_its_terminal_record_and_then_answers_204(relay: Relay) -> None:
    job = job_of(relay)
    async with serve(relay) as client:
        async with client.get(f"/v1/jobs/{job.id}/events") as response:
            blocks = read_blocks(response)
            first = await anext(blocks)
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            rest = [block async for block in blocks]
        last_id = rest[-1]["id"]
        again = await client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": last_id})
        by_query = await client.get(f"/v1/jobs/{job.id}/events", params={"last_event_id": last_id})
        from_before = await client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": first["id"]})

        assert [first["event"], *(block["event"] for block in rest)] == ["log", "done"]
        assert (again.status, by_query.status) == (204, 204)
        assert await events_of(from_before) == ["done"]


async def test_the_header_wins_over_the_query(relay: Relay) -> None:
    job = job_of(relay, 3)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    epoch = relay.journal.epoch
    async with serve(relay) as client:
        response = await client.get(
            f"/v1/jobs/{job.id}/events?last_event_id={epoch}-1", headers={"Last-Event-ID": f"{epoch}-3"}
        )

        assert await events_of(response) == ["done"]


async def test_a_stream_of_all_jobs_also_hears_jobs_that_come_later(relay: Relay) -> None:
    async with serve(relay) as client, client.get("/v1/events") as response:
        blocks = read_blocks(response)
        first, second = job_of(relay), job_of(relay)

        heard = [json.loads((await anext(blocks))["data"])["job"] for _ in range(2)]

    assert heard == [first.id, second.id]


@pytest.mark.parametrize(
    "stale",
    ["0badcafe-1", "nonsense", "{epoch}-999", "{epoch}--1", "{epoch}-1; drop", "%00", "é", "{epoch}-" + "9" * 400, "-"],
)
async def test_a_cursor_that_cannot_be_continued_is_told_of_the_gap_and_given_the_state(
    relay: Relay, stale: str
) -> None:
    job = job_of(relay, 3)
    async with serve(relay) as client:
        said = stale.format(epoch=relay.journal.epoch)
        async with client.get("/v1/events", params={"last_event_id": said}) as response:
            assert response.status == 200
            blocks = read_blocks(response)
            gap, snapshot = await anext(blocks), await anext(blocks)
            relay.bus.publish(job, Log(line="next"))
            live = await anext(blocks)

    here = str(Position(relay.journal.epoch, 3))
    assert (gap["event"], json.loads(gap["data"])["to"], gap["id"]) == ("gap", here, here)
    assert json.loads(gap["data"])["missed"] is None
    assert snapshot["event"] == "snapshot"
    assert [(job["job"], job["seq"]) for job in json.loads(snapshot["data"])["jobs"]] == [(job.id, 3)]
    assert (live["event"], json.loads(live["data"])["seq"]) == ("log", 4)


async def test_a_cursor_older_than_the_journal_is_told_how_many_records_it_missed() -> None:
    journal = MemoryJournal(Keep(records=10))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        job_of(relay, 30)
        headers = {"Last-Event-ID": f"{journal.epoch}-5"}
        async with client.get("/v1/events", headers=headers) as response:
            gap = await anext(read_blocks(response))

    assert json.loads(gap["data"]) == {"from": f"{journal.epoch}-5", "to": f"{journal.epoch}-30", "missed": 25}


async def test_a_new_reader_of_a_story_that_cannot_be_told_whole_is_given_the_state_and_no_gap() -> None:
    journal = MemoryJournal(Keep(records=10))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        job_of(relay, 30)
        async with client.get("/v1/events") as response:
            first = await anext(read_blocks(response))

    assert first["event"] == "snapshot"


async def test_a_new_reader_of_a_job_that_has_ended_is_told_the_story_and_then_204(relay: Relay) -> None:
    job = job_of(relay, 2)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with serve(relay) as client:
        assert await events_of(await client.get(f"/v1/jobs/{job.id}/events")) == ["log", "log", "done"]


async def test_json_lines_carry_the_same_objects(relay: Relay) -> None:
    job = job_of(relay, 2)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with serve(relay) as client:
        response = await client.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "application/x-ndjson"})
        lines = [line for line in (await response.read()).splitlines() if line]

    assert response.content_type == "application/x-ndjson"
    assert lines == [record.json for record in relay.journal.read(0)]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/event-stream", 200),
        ("*/*", 200),
        ("text/event-stream, */*;q=0.1", 200),
        ("application/x-ndjson", 200),
        ("application/json", 406),
        ("text/html", 406),
    ],
)
async def test_what_a_client_accepts_is_heeded(relay: Relay, accept: str, status: int) -> None:
    async with serve(relay) as client, client.get("/v1/events", headers={"Accept": accept}) as response:
        assert response.status == status


async def test_head_answers_headers_only_and_opens_no_stream(relay: Relay) -> None:
    async with serve(relay) as client:
        response = await client.head("/v1/events")

        assert (response.status, response.content_type, await response.read()) == (200, "text/event-stream", b"")


async def test_over_the_limit_a_stream_is_asked_to_come_back_in_a_way_eventsource_survives(relay: Relay) -> None:
    job_of(relay, 3)
    async with serve(relay, max_streams=1) as client, client.get("/v1/events") as first:
        await anext(read_blocks(first))
        async with client.get("/v1/events", headers={"Last-Event-ID": f"{relay.journal.epoch}-2"}) as second:
            (busy,) = [block async for block in read_blocks(second)]

    assert second.status == 200
    assert busy["event"] == "busy"
    assert busy["id"] == f"{relay.journal.epoch}-2", "the client's own cursor is left as it is"
    assert 2_000 <= int(busy["retry"]) <= 10_000


async def test_debug_streams_carry_raw_exchanges_only_where_that_is_allowed(relay: Relay) -> None:
    job = job_of(relay)
    exchange = Exchange(
        jobs=(job.id,),
        upstream="sora",
        method="GET",
        url="http://127.0.0.1/nf/pending/v2",
        status=200,
        seconds=0.2,
        request="",
        response="[]",
        at=relay.clock.now(),
    )
    heard = {}
    for allowed in (True, False):
        app = create_app(relay, debug=allowed)
        async with serve_app(app) as client, client.get(f"/v1/jobs/{job.id}/events?debug=1") as response:
            blocks = read_blocks(response)
            await anext(blocks)
            relay.bus.publish_exchange(exchange)
            relay.bus.publish(job, Log(line="after"))
            heard[allowed] = sorted([(await anext(blocks))["event"] for _ in range(1 + allowed)])

    assert heard == {True: ["exchange", "log"], False: ["log"]}


async def test_a_client_that_leaves_is_noticed_by_the_next_heartbeat_and_nothing_is_left_of_it(relay: Relay) -> None:
    app = create_app(relay, heartbeat=0.01)
    async with serve_app(app) as client:
        async with client.get("/v1/events") as response:
            await response.content.readline()
            (stream,) = app[STREAMS]
        await stream.done.wait()

        assert len(app[STREAMS]) == 0
        assert not relay.bus._topics
        assert not relay.bus._everyone.subscriptions


async def test_with_handler_cancellation_a_client_that_leaves_is_noticed_at_once(relay: Relay) -> None:
    app = create_app(relay, heartbeat=3_600)
    async with serve_app(app, handler_cancellation=True) as client:
        async with client.get("/v1/events") as response:
            await response.content.readline()
            (stream,) = app[STREAMS]
        await stream.done.wait()

        assert not relay.bus._everyone.subscriptions


class Mute:
    """A client that opens a stream and then reads nothing more of it."""

    def __init__(self, client: ClientSession) -> None:
        base = client._base_url
        assert base is not None
        self._address = (base.host or "127.0.0.1", base.port or 0)

    async def __aenter__(self) -> None:
        reader, self._writer = await asyncio.open_connection(*self._address)
        self._writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n:\n")
        transport = self._writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()


def flood(relay: Relay) -> Job:
    """More than the kernel's buffers and aiohttp's hold for one connection (about 4 MB were seen)."""
    job = job_of(relay)
    for _ in range(1_500):
        relay.bus.publish(job, Log(line="x" * 8_000))
    return job


async def test_a_client_that_takes_nothing_is_cut_off_and_costs_the_others_nothing(relay: Relay) -> None:
    app = create_app(relay, send_timeout=0.2)
    async with serve_app(app) as client, Mute(client):
        (stuck,) = app[STREAMS]
        job = flood(relay)
        async with client.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "application/x-ndjson"}) as response:
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            lines = [json.loads(line) async for line in response.content if line.strip()]
        await stuck.done.wait()

    assert [line["seq"] for line in lines] == list(range(1, 1_503))


async def test_shutting_down_says_goodbye_to_fifty_streams_and_waits_for_none(relay: Relay) -> None:
    """aiohttp's default is to wait 60 s for open connections, twice; the test's own time limit would tell."""
    app = create_app(relay, heartbeat=3_600)
    runner = AppRunner(app, access_log=None)
    await runner.setup()
    site = TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        responses = [await client.get("/v1/events") for _ in range(50)]
        for response in responses:
            await response.content.readline()
        async with asyncio.timeout(30):
            await runner.cleanup()

        assert [await events_of(response) for response in responses] == [["bye"]] * 50


async def test_shutting_down_cuts_a_client_that_takes_nothing(relay: Relay) -> None:
    app = create_app(relay, heartbeat=3_600, send_timeout=3_600)
    async with serve_app(app) as client, Mute(client):
        (stuck,) = app[STREAMS]
        flood(relay)
        async with asyncio.timeout(30):
            await app.shutdown()
            await stuck.done.wait()


async def test_a_relay_on_its_way_out_turns_new_streams_away_with_a_goodbye(relay: Relay) -> None:
    app = create_app(relay)
    async with serve_app(app) as client:
        await app.shutdown()

        assert await events_of(await client.get("/v1/events")) == ["bye"]
        assert (await client.get("/readyz")).status == 503


async def test_a_reader_slower_than_the_journal_is_told_of_the_gap_in_its_stream() -> None:
    journal = MemoryJournal(Keep(records=20))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        job = job_of(relay)
        async with client.get("/v1/events") as response, aclosing(read_blocks(response)) as blocks:
            await anext(blocks)
            for number in range(50):
                relay.bus.publish(job, Log(line=f"burst {number}"))
            gap, snapshot = await anext(blocks), await anext(blocks)
            relay.bus.publish(job, Log(line="after"))
            live = await anext(blocks)

    assert json.loads(gap["data"]) == {"from": f"{journal.epoch}-1", "to": f"{journal.epoch}-51", "missed": 50}
    assert snapshot["event"] == "snapshot"
    assert json.loads(live["data"])["seq"] == 52
