"""The promise over a journal that several nodes share, on real servers: one story at every node, in the same words.

The relays are real, and so are the server, the upstream's HTTP and the streams'. Time passes quickly, and is not moved
by hand: a manual clock does not know of work in a server of its own.
"""

import asyncio
import io
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from relay import Relay
from relay.clock import SystemClock
from relay.cluster import ClusterOptions
from relay.events import Event
from relay.journal.redis import RedisJournal
from relay.testing import SCENARIOS, ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink, DebugSink
from tests.cluster.buses import Node, running
from tests.journal.redis.servers import EngineServer, engine, engine_server
from tests.parity.test_parity import DEADLINE, Reader, printed
from tests.web.serving import serve

__all__ = ["engine", "engine_server"]

SPEED = 40.0
"""Seconds that pass in one: the longest story takes five."""

LEASE = 300.0
"""More than the stories take: each job stays at the node that accepted it, whose console has its whole story."""

RECORDING = Path(__file__).with_name("recording.sse")


class Head(msgspec.Struct):
    job: str
    at: datetime


async def test_console_debug_and_every_stream_of_every_node_tell_the_same_story(engine: EngineServer) -> None:
    clock = SystemClock(SPEED)
    consoles, debugs = [io.StringIO(), io.StringIO()], [io.StringIO(), io.StringIO()]
    async with ScriptedUpstream(clock=clock) as upstream, AsyncExitStack() as stack:
        relays = [
            Relay(
                [Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)],
                journal=RedisJournal(engine.url, node=f"n{number}"),
                cluster=ClusterOptions(lease=LEASE, shards=2),
                sinks=[ConsoleSink(consoles[number], format="json"), DebugSink(debugs[number])],
                clock=clock,
            )
            for number in range(2)
        ]
        clients = []
        for relay in relays:
            await stack.enter_async_context(relay)
            clients.append(await stack.enter_async_context(serve(relay)))
        jobs = [
            await relays[number % 2].requests.submit("sora", {"prompt": f"[{scenario}] a cat"})
            for number, scenario in enumerate(SCENARIOS)
        ]
        readers = {
            job.id: [Reader(client, f"/v1/jobs/{job.id}/events", leaves_after=7) for client in clients] for job in jobs
        }
        streams = dict(
            zip(
                readers,
                await asyncio.gather(*(asyncio.gather(*(one.run() for one in both)) for both in readers.values())),
                strict=True,
            )
        )
        late = {job.id: [await Reader(one, f"/v1/jobs/{job.id}/events").run() for one in clients] for job in jobs}

    for job in jobs:
        console, other = ([line for line in printed(out) if line.job == job.id] for out in consoles)
        story = console or other
        assert [line.seq for line in story] == list(range(1, len(story) + 1))
        assert [line.type for line in story if line.type in ("done", "failed", "cancelled")] == [story[-1].type]
        assert sorted([console, other]) == [[], story], "the sinks of one node have the story, and no other has a part"
        assert [line for out in debugs for line in printed(out) if line.job == job.id] == story
        for stream in (*streams[job.id], *late[job.id]):
            assert stream == story


async def test_the_recorded_stories_come_back_byte_for_byte_from_another_node(engine: EngineServer) -> None:
    recorded = list(dict.fromkeys(records_of(RECORDING.read_bytes())))
    clock = StoppedClock()
    here = Node(RedisJournal(engine.url, node="a"), clock)
    there = Node(RedisJournal(engine.url, node="b"), clock)
    for node in (here, there):
        await node.open()
    await here.claim()
    read_head, read_event = msgspec.json.Decoder(Head).decode, msgspec.json.Decoder(Event).decode
    async with running(here, there):
        for body in recorded:
            head = read_head(body)
            clock.at = head.at
            here.bus.publish(here.job(head.job), read_event(body))
        received = await there.received(len(recorded))

    assert len(recorded) > 50
    assert [record.json for record in received] == recorded
    assert [record.json for record in there.journal.read(0, limit=len(recorded) + 1)] == recorded


class StoppedClock(ManualClock):
    """The time of day is *at*, as it was when a record was made."""

    at: datetime

    def now(self) -> datetime:
        return self.at


def records_of(recording: bytes) -> Iterator[bytes]:
    """The JSON of each record in *recording*, in order."""
    for line in recording.split(b"\n"):
        if line.startswith(b'data: {"v":1,'):
            yield line.removeprefix(b"data: ")


pytestmark = [pytest.mark.server, pytest.mark.redis]
