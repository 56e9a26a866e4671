"""Streams as production serves them: an AppRunner that cancels no handler, real sockets, clients that misbehave."""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import pytest
from aiohttp import ClientConnectionError, ClientResponse, ClientSession
from aiohttp.web import Application, AppRunner, Request, StreamResponse, TCPSite, middleware

from relay import Relay
from relay.events import Done, Failed, Log, Position
from relay.jobs import Job
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from sinks.sse import frame
from tests.relay.scripted import RUNNING, OneStep, TwoStep, an_exchange, story
from tests.web.serving import serve, serve_app
from tests.web.streaming.client import read_blocks
from web import create_app
from web.middleware.idle_timeout import reap_idle_connections
from web.middleware.problems import Handler
from web.streaming.bare import BareConnection
from web.streaming.connections import HandlerConnection, StreamConnection
from web.streaming.keys import STREAMS
from web.streaming.session import StreamSession
from web.streaming.takeover import TakenOverConnection

pytestmark = pytest.mark.usefixtures("take_over")


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay whose clock stands still: nothing happens but what a test makes happen."""
    async with Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock()) as relay:
        yield relay


def job_of(relay: Relay, records: int = 1) -> Job:
    """A job with that many records, and no poller at work on it."""
    job = relay.registry.admit()
    for number in range(records):
        relay.bus.publish(job, Log(line=f"line {number + 1}"))
    return job


def served(app: Application) -> StreamConnection:
    """The connection of the only stream that is open."""
    (stream,) = app[STREAMS]
    assert isinstance(stream, StreamSession)
    return stream.connection


def socket_of(app: Application) -> socket.socket:
    """The socket of the only stream that is open, to be closed by the caller."""
    match served(app):
        case BareConnection() as bare:
            return socket.socket(fileno=os.dup(bare.fd))
        case HandlerConnection(transport=transport) | TakenOverConnection(transport=transport):
            return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    raise AssertionError("there is no other way")


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


async def test_a_stream_says_how_often_it_beats_so_that_a_client_knows_silence(relay: Relay) -> None:
    async with serve(relay, heartbeat=7.5) as client:
        async with client.get("/v1/events") as response:
            assert response.headers["Relay-Heartbeat"] == "7.5"
        async with client.head("/v1/events") as response:
            assert response.headers["Relay-Heartbeat"] == "7.5"


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
    assert (gap["event"], json.loads(gap["data"])["to"], gap["id"]) == ("gap", here, "unknown-0")
    assert json.loads(gap["data"])["missed"] is None
    assert (snapshot["event"], snapshot["id"]) == ("snapshot", here), "cut off before this, it is told all of it again"
    assert [(job["job"], job["seq"]) for job in json.loads(snapshot["data"])["jobs"]] == [(job.id, 3)]
    assert (live["event"], json.loads(live["data"])["seq"]) == ("log", 4)


async def test_a_cursor_older_than_the_journal_is_told_how_many_records_it_missed() -> None:
    journal = MemoryJournal(Retention(records=10))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        job_of(relay, 30)
        headers = {"Last-Event-ID": f"{journal.epoch}-5"}
        async with client.get("/v1/events", headers=headers) as response:
            gap = await anext(read_blocks(response))

    assert json.loads(gap["data"]) == {"from": f"{journal.epoch}-5", "to": f"{journal.epoch}-30", "missed": 25}


async def test_a_new_reader_of_a_story_that_cannot_be_told_whole_is_given_the_state_and_no_gap() -> None:
    journal = MemoryJournal(Retention(records=10))
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
        ("application/json", 200),
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
    exchange = an_exchange(relay.clock.now(), job.id)
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


async def test_with_handler_cancellation_a_client_that_leaves_is_noticed_at_once(relay: Relay) -> None:
    app = create_app(relay, heartbeat=3_600)
    async with serve_app(app, handler_cancellation=True) as client:
        async with client.get("/v1/events") as response:
            await response.content.readline()
            (stream,) = app[STREAMS]
        await stream.done.wait()

        assert not relay.bus._topics


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
        cast(asyncio.ReadTransport, self._writer.transport).pause_reading()

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()


def flood(relay: Relay) -> Job:
    """More than the kernel's buffers and aiohttp's hold for one connection (about 4 MB were seen)."""
    job = job_of(relay)
    for _ in range(1_500):
        relay.bus.publish(job, Log(line="x" * 8_000))
    return job


async def test_a_client_that_takes_nothing_is_cut_off(relay: Relay) -> None:
    app = create_app(relay, send_timeout=0.2)
    async with serve_app(app) as client, Mute(client):
        (stuck,) = app[STREAMS]
        flood(relay)
        await stuck.done.wait()

        assert len(app[STREAMS]) == 0


async def test_a_client_that_takes_nothing_costs_the_others_nothing(relay: Relay) -> None:
    app = create_app(relay, send_timeout=3_600)
    async with serve_app(app) as client, Mute(client):
        (stuck,) = app[STREAMS]
        job = flood(relay)
        async with client.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "application/x-ndjson"}) as response:
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            lines = [json.loads(line) async for line in response.content if line.strip()]
        assert stuck in app[STREAMS]

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
    journal = MemoryJournal(Retention(records=20))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        job = job_of(relay)
        async with client.get("/v1/events") as response, aclosing(read_blocks(response)) as blocks:
            await anext(blocks)
            for _ in range(1_500):
                relay.bus.publish(job, Log(line="x" * 8_000))
            read = [await anext(blocks)]
            while read[-1]["event"] != "snapshot":
                read.append(await anext(blocks))
            relay.bus.publish(job, Log(line="after"))
            live = await anext(blocks)

    *logs, gap, _ = read
    last = json.loads(logs[-1]["data"])["seq"]
    assert [json.loads(log["data"])["seq"] for log in logs] == list(range(2, last + 1))
    assert json.loads(gap["data"]) == {
        "from": f"{journal.epoch}-{last}",
        "to": f"{journal.epoch}-1501",
        "missed": 1_501 - last,
    }
    assert json.loads(live["data"])["seq"] == 1_502


async def test_a_client_that_can_take_no_stream_gets_the_state_with_the_same_seq(relay: Relay) -> None:
    job = job_of(relay, 3)
    async with serve(relay) as client:
        response = await client.get("/v1/events", headers={"Accept": "application/json"})
        state = await response.json()

    assert [(one["job"], one["seq"]) for one in state["jobs"]] == [(job.id, 3)]
    assert state["position"] == f"{relay.journal.epoch}-3"


async def test_an_eventsource_that_asks_for_what_is_no_longer_kept_is_told_once_and_then_stopped(relay: Relay) -> None:
    async with serve(relay) as client:
        for path in ("/v1/jobs/job_gone/events", "/v1/events?job=job_gone"):
            headers = {"Accept": "text/event-stream"}
            told = await client.get(path, headers=headers)
            (gone,) = [block async for block in read_blocks(told)]
            again = await client.get(path, headers={**headers, "Last-Event-ID": gone["id"]})

            assert (told.status, gone["event"], json.loads(gone["data"])) == (200, "gone", {"job": "job_gone"})
            assert again.status == 204


async def test_one_address_may_be_held_to_a_number_of_streams(relay: Relay) -> None:
    async with (
        serve(relay, max_streams_per_client=1) as client,
        client.get("/v1/events") as first,
    ):
        await first.content.readline()
        assert await events_of(await client.get("/v1/events")) == ["busy"]
        first.close()


async def test_a_stream_is_renewed_in_time_and_the_resume_loses_nothing(relay: Relay) -> None:
    job = job_of(relay, 2)
    async with serve(relay, max_age=0.01) as client:
        blocks = [block async for block in read_blocks(await client.get("/v1/events"))]
        relay.bus.publish(job, Log(line="meanwhile"))
        again = await client.get("/v1/events", headers={"Last-Event-ID": blocks[-1]["id"]})
        resumed = [block async for block in read_blocks(again)]

    assert [block["event"] for block in blocks] == ["log", "log", "bye"]
    assert blocks[-1]["retry"] == "250"
    assert [json.loads(block["data"]).get("seq") for block in resumed] == [3, None]


async def test_the_kernel_is_told_to_notice_a_dead_peer_and_a_stalled_one(relay: Relay) -> None:
    app = create_app(relay)
    async with serve_app(app) as client, client.get("/v1/events") as response:
        await response.content.readline()
        with socket_of(app) as sock:
            options = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_USER_TIMEOUT, socket.TCP_NOTSENT_LOWAT)
            ]

    assert options == [12_000, 16_384]


async def test_a_snapshot_is_less_than_a_kilobyte_a_job_and_never_a_block_over_256_kibibytes() -> None:
    journal = MemoryJournal(Retention(records=10))
    async with Relay([], journal=journal, clock=ManualClock()) as relay, serve(relay) as client:
        for _ in range(450):
            relay.bus.publish(job_of(relay), Failed(kind="upstream", message="\U0001f600" * 5_000))
        async with client.get("/v1/events") as response:
            await response.content.readline()
            snapshots = [await response.content.readuntil(b"\n\n") for _ in range(5)]

    jobs = [json.loads(block.split(b"data: ")[1].split(b"\n")[0])["jobs"] for block in snapshots]
    assert [len(part) for part in jobs] == [100, 100, 100, 100, 50]
    assert max(len(json.dumps(job)) for part in jobs for job in part) < 1_000
    assert max(len(block) for block in snapshots) < 256 * 1024
    assert jobs[0][0]["terminal"] == "failed"


async def raw(client: ClientSession, head: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of our own making, with *head* sent."""
    base = client._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    writer.write(head)
    return reader, writer


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_its_connection(relay: Relay) -> None:
    job = job_of(relay)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with serve(relay) as client:
        reader, writer = await raw(client, f"GET /v1/jobs/{job.id}/events HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()

    assert b"chunked" not in head.lower()
    assert body == b":\n" + b"".join(frame(record) for record in relay.journal.read(0))


async def test_what_one_turn_of_the_loop_brings_leaves_in_one_write_to_each_reader(relay: Relay) -> None:
    job = job_of(relay)
    async with serve(relay) as client:
        readers = []
        for path in ("/v1/events", f"/v1/jobs/{job.id}/events", "/v1/events?level=info"):
            reader, writer = await raw(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"line 1")
            await reader.readuntil(b"\n\n\r\n")
            readers.append((reader, writer))
        for number in range(100):
            relay.bus.publish(job, Log(line=f"burst {number}"))
        chunks = []
        for reader, writer in readers:
            size = int(await reader.readline(), 16)
            chunks.append(await reader.readexactly(size))
            writer.transport.abort()

    burst = b"".join(frame(record) for record in relay.journal.read(1))
    assert chunks == [burst, burst, burst]


async def test_a_reset_in_the_middle_of_a_stream_leaves_no_error_and_no_trace(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(relay, heartbeat=0.01)
    async with serve_app(app) as client:
        reader, writer = await raw(client, b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b":\n")
        (stream,) = app[STREAMS]
        reset = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST, not FIN
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        flood(relay)
        writer.transport.abort()
        await stream.done.wait()

    assert caplog.records == []
    assert not relay.bus._topics


async def test_a_client_that_leaves_before_it_is_answered_leaves_no_error(
    relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(relay)
    answered = asyncio.Event()

    @middleware
    async def leave(request: Request, handler: Handler) -> StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        try:
            return await handler(request)
        finally:
            answered.set()

    app.middlewares.append(leave)
    async with serve_app(app) as client:
        with pytest.raises(ClientConnectionError):
            await client.get("/v1/events")
        await answered.wait()

    assert caplog.records == []
    assert len(app[STREAMS]) == 0


async def test_a_client_that_half_closes_while_nothing_happens_is_freed_by_the_next_heartbeat(relay: Relay) -> None:
    app = create_app(relay, heartbeat=0.01)
    async with serve_app(app) as client:
        reader, writer = await raw(client, b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b":\n")
        (stream,) = app[STREAMS]
        writer.write_eof()
        await stream.done.wait()
        writer.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Last-Event-ID: " + b"9" * 8_000, 200),
        (b"Last-Event-ID: " + b"9" * 9_000, 400),
        (b"Last-Event-ID: \xff\xfe", 200),
        (b"Last-Event-ID: a-1\r\nLast-Event-ID: b-2", 200),
        (b"Last-Event-ID: a\x00b", 400),
        (b"Last-Event-ID: a\rb", 400),
        (b"Last-Event-ID: -5", 200),
    ],
    ids=["8 kB", "9 kB", "not UTF-8", "two of them", "NUL", "bare CR", "negative"],
)
async def test_no_last_event_id_however_odd_is_the_relays_failure(relay: Relay, lines: bytes, status: int) -> None:
    """400 only where aiohttp's parser refuses the request before any of our code sees it."""
    async with serve(relay) as client:
        reader, writer = await raw(client, b"GET /v1/events HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n\r\n")
        answer = await reader.readline()
        if status == 200:
            assert b"event: gap\n" in await reader.readuntil(b"\n\n")
        writer.transport.abort()

    assert int(answer.split()[1]) == status


@pytest.mark.parametrize("sent", [b"", b"GET /v1/eve", b"GET /v1/events HTTP/1.1\r\nHost:"])
async def test_a_connection_that_asks_for_nothing_is_cut_off(relay: Relay, sent: bytes) -> None:
    clock = ManualClock()
    runner = AppRunner(create_app(relay), access_log=None)
    async with reap_idle_connections(runner, clock=clock):
        await runner.setup()
        await TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
            async with client.get("/v1/events") as patient:
                reader, writer = await raw(client, sent)
                cut = asyncio.create_task(reader.read())
                while not cut.done():
                    await clock.advance(1)
                with contextlib.suppress(ConnectionResetError):
                    assert await cut == b""
                job_of(relay)
                assert (await anext(read_blocks(patient)))["event"] == "log"
            writer.close()
        await runner.cleanup()


async def test_what_a_relay_says_last_is_said_on_every_stream_before_it_ends() -> None:
    """Stopping, a relay ends a submission that is under way as lost. The console says so, and so must the streams."""
    said: list[str] = []

    class Hanging(TwoStep):
        async def submit(self, input: Mapping[str, Any]) -> str:
            await asyncio.Event().wait()
            return "never"

    relay = Relay(
        [Hanging(story({}))],
        sinks=[lambda record: said.append(record.event.text)],
        clock=ManualClock(),
        submit_grace=0.0,
    )
    app = create_app(relay)
    async with serve_app(app) as client:
        response = await client.get("/v1/events")
        relay.submit("scripted", {"prompt": "a cat"})
        blocks = read_blocks(response)
        heard = [await anext(blocks)]
        await app.shutdown()
        heard += [block async for block in blocks]

    assert [block["event"] for block in heard] == ["accepted", "failed", "bye"]
    assert [json.loads(block["data"])["text"] for block in heard[:2]] == said
