"""Clients from other hands read every stream of ours: all of the journal's records, all notices, and nothing else.

Heartbeats stand between the blocks, and the bytes arrive in odd pieces.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp.web import Application, AppRunner, Request, Response, StreamResponse, TCPSite, middleware
from msgspec import Struct
from openai import OpenAI, Stream
from openai._types import RequestOptions

from relay import Relay
from relay.events import EVENTS, Done, Log, Record
from relay.jobs import Job
from relay.journal import SqliteJournal
from relay.testing import ManualClock, sample_records
from relay.testing.conformance.samples import HOSTILE_TEXTS, hostile_records
from sinks.sse import HEARTBEAT, frame
from tests.interop.clients import CLIENTS, POLYFILLS, Block, Client
from tests.interop.wiretap import Wiretap, wiretap
from tests.relay.scripted import RUNNING, OneStep, an_exchange, story
from tests.web.serving import serve_app
from web import create_app
from web.middleware.problems import Handler
from web.streaming.keys import STREAMS
from web.streaming.wire import SSE

Heard = TypeVar("Heard")

NOTICES = ("snapshot", "gap", "skipped", "busy", "bye", "gone", "heartbeat", "exchange")
TYPES = (*(str(event.__struct_config__.tag) for event in EVENTS), *NOTICES)


class Stage(Struct):
    """A relay in which nothing happens but what a test makes happen, behind a tap."""

    relay: Relay
    tap: Wiretap
    url: str

    def play(self, story: Iterable[Record]) -> "Play":
        """A job for each of *story*, whose events are still to be published."""
        records = list(story)
        jobs = {name: self.relay.registry.admit() for name in dict.fromkeys(record.job for record in records)}
        return Play(self, jobs, records)

    def blocks(self, after: int = 0) -> list[Block]:
        """What a client should say of the journal."""
        return [
            Block(str(record.position), record.event.type, record.json.decode("ascii"))
            for record in self.relay.journal.read(after, limit=10_000)
        ]


class Play(Struct):
    """A story on stage."""

    stage: Stage
    jobs: dict[str, Job]
    to_come: list[Record]

    @property
    def url(self) -> str:
        named = "&".join(f"job={job.id}" for job in self.jobs.values())
        return f"{self.stage.url}/v1/events?{named}"

    def publish(self) -> bytes:
        """Publish the next record; its block."""
        record = self.to_come.pop(0)
        return frame(self.stage.relay.bus.publish(self.jobs[record.job], record.event))

    async def go_on(self, until: int = 0) -> None:
        """Publish one record after the other until so many are left; between two of them passes a heartbeat."""
        while len(self.to_come) > until:
            await self.stage.tap.heartbeat_after(self.publish())


@asynccontextmanager
async def stage(**options: Any) -> AsyncGenerator[Stage]:
    async with (
        Relay([], clock=ManualClock()) as relay,
        serve_app(create_app(relay, heartbeat=0.005, **options)) as server,
    ):
        assert server._base_url is not None
        async with wiretap(server._base_url.port or 0) as (tap, url):
            yield Stage(relay, tap, url)


async def while_told(reading: Coroutine[Any, Any, Heard], telling: Coroutine[Any, Any, None]) -> Heard:
    """What is read while something is told. A reader that stops too early ends the telling."""
    async with asyncio.TaskGroup() as group:
        reader, teller = group.create_task(reading), group.create_task(telling)
        reader.add_done_callback(lambda _: teller.cancel())
    return reader.result()


@pytest.mark.parametrize("client", CLIENTS)
async def test_every_record_is_read_once_and_as_it_is_across_renewals_and_a_lost_connection(client: Client) -> None:
    async with stage(max_age=0.3) as house:
        play = house.play([*sample_records(), *hostile_records()])

        async def tell() -> None:
            await play.go_on(until=len(play.to_come) // 2)
            await house.tap.until(lambda: b"event: bye\n" in house.tap.passed)
            await house.tap.cut_in(play.publish())
            await play.go_on(until=1)
            play.publish()

        heard = await while_told(client(play.url, TYPES), tell())
        told = house.blocks()

    assert len(told) == len(sample_records()) + 5 * len(HOSTILE_TEXTS)
    assert [block for block in heard if block.event != "bye"] == told
    assert {block.data for block in heard if block.event == "bye"} == {'{"reason":"this stream is renewed"}'}


@pytest.mark.parametrize("client", [*CLIENTS, *POLYFILLS])
async def test_what_is_missing_and_where_the_jobs_stand_is_read_before_the_records(client: Client) -> None:
    async with stage(debug=True) as house:
        play = house.play(sample_records())
        while len(play.to_come) > 12:
            play.publish()
        here = f"{house.relay.journal.epoch}-12"
        exchange = an_exchange(
            house.relay.clock.now(), *(job.id for job in play.jobs.values()), request="".join(HOSTILE_TEXTS[:-1])
        )

        async def tell() -> None:
            await house.tap.until(lambda: b"event: snapshot\n" in house.tap.passed)
            house.relay.bus.publish_exchange(exchange)
            await house.tap.until(lambda: b"event: exchange\n" in house.tap.passed)
            await play.go_on(until=1)
            play.publish()

        heard = await while_told(client(f"{play.url}&debug=1&last_event_id=0badcafe-7", TYPES), tell())
        wire = house.tap.passed.decode("ascii")
        notices = [
            Block(id, event, data)
            for event, data, id in re.findall(r"event: (gap|snapshot|exchange)\ndata: (.*)\nid: (.*)\n\n", wire)
        ]
        rest = house.blocks(after=12)

    assert [notice.event for notice in notices] == ["gap", "snapshot", "exchange"]
    assert json.loads(notices[0].data) == {"from": "0badcafe-7", "to": here, "missed": None}
    assert heard == [*notices, *rest]


@pytest.mark.parametrize("client", [*CLIENTS, *POLYFILLS])
async def test_every_notice_is_read_and_says_when_to_come_back(client: Client) -> None:
    """A server that says all notices there are and, to whom comes back with the last of their ids, 204."""
    data = [{"reason": text} for text in HOSTILE_TEXTS]
    said = [(f"e-{number}", name, data[number]) for number, name in enumerate(NOTICES)]
    cursors: list[str | None] = []

    async def answer(request: Request) -> StreamResponse:
        cursors.append(request.headers.get("Last-Event-ID") or request.query.get("lastEventId"))
        if len(cursors) > 1:
            return Response(status=204)
        blocks = [SSE.notice(name, body, position, retry=1) for position, name, body in said]
        return Response(body=HEARTBEAT.join([b"", *blocks, b""]), headers={"Content-Type": SSE.content_type})

    app = Application()
    app.router.add_get("/", answer)
    async with serve_app(app) as server:
        assert server._base_url is not None
        heard = await client(str(server._base_url), TYPES)

    assert [(block.id, block.event, json.loads(block.data)) for block in heard] == said
    assert cursors == [None, said[-1][0]]


@pytest.mark.parametrize("client", POLYFILLS)
async def test_a_client_that_names_its_last_id_in_the_query_is_given_nothing_twice(
    client: Client, tmp_path: Path
) -> None:
    """Its stream is renewed, and then the relay ends and is started again."""
    came = asyncio.Semaphore(0)
    named: list[str | None] = []
    heard: list[Block] = []
    told: list[Block] = []
    port = 0

    @middleware
    async def note(request: Request, handler: Handler) -> StreamResponse:
        named.append(request.query.get("lastEventId"))
        came.release()
        return await handler(request)

    async with asyncio.TaskGroup() as group:
        reading: asyncio.Task[None] | None = None
        for run in range(2):
            journal = SqliteJournal(tmp_path / "relay.db")
            upstream = OneStep(story({"t": RUNNING}))
            async with Relay([upstream], journal=journal, clock=ManualClock()) as relay:
                app = create_app(relay)
                app.middlewares.append(note)
                runner = AppRunner(app, access_log=None)
                await runner.setup()
                await TCPSite(runner, "127.0.0.1", port).start()
                port = runner.addresses[0][1]
                job = relay.follow("scripted", "t")
                relay.bus.publish(job, Log(line=f"run {run}"))
                if reading is None:

                    async def read(url: str) -> None:
                        heard.extend(await client(url, TYPES))

                    reading = group.create_task(read(f"http://127.0.0.1:{port}/v1/events?job={job.id}"))
                await came.acquire()
                relay.bus.publish(job, Log(line="meanwhile"))
                if run == 0:
                    await renewed(app)
                    await came.acquire()
                    relay.bus.publish(job, Log(line="after the renewal"))
                else:
                    relay.bus.publish(job, Done(urls=("https://a/b",)))
                    await reading
                told = [
                    Block(str(record.position), record.event.type, record.json.decode("ascii"))
                    for record in journal.read(0)
                ]
                await runner.cleanup()

    assert [block for block in heard if block.event != "bye"] == told
    assert named[0] is None
    assert all(named[1:]), "each time that it came back"


async def renewed(app: Application) -> None:
    """Let the only stream that is open, or is about to be, be renewed."""
    while not len(app[STREAMS]):  # noqa: ASYNC110 - it is counted in within a few rounds of the loop
        await asyncio.sleep(0)
    (stream,) = app[STREAMS]
    stream.expires = 0.0
    stream.wake()
    await stream.done.wait()


ACCEPT_SSE: RequestOptions = {"headers": {"Accept": "text/event-stream"}}
"""It asks for JSON by itself, also for a stream."""


def read_with_openai(base_url: str, path: str) -> list[object]:
    """What openai-python makes of a stream: the data of each block, and an exception where one looks like an error."""
    with (
        OpenAI(base_url=base_url, api_key="none", max_retries=0) as openai,
        openai.get(path, cast_to=object, stream=True, stream_cls=Stream[object], options=ACCEPT_SSE) as stream,
    ):
        return list(stream)


async def test_the_stream_of_openai_python_reads_every_record_and_no_error_into_any() -> None:
    async with stage() as house:
        play = house.play([*sample_records(), *hostile_records()])
        path = play.url.removeprefix(house.url)

        async def tell() -> None:
            await play.go_on(until=1)
            play.publish()

        heard = await while_told(asyncio.to_thread(read_with_openai, house.url, path), tell())
        told = house.blocks()

    assert heard == [json.loads(block.data) for block in told]
