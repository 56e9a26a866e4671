"""Clients that read hardly anything, come all at once, sleep or are cut off again and again, on real sockets."""

import asyncio
import random
import re
import resource
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from relay import Relay
from relay.events import Done, Log, Progress
from relay.jobs import Job
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.web.serving import serve, serve_app
from tests.web.streaming.client import Block, blocks
from web import create_app
from web.streaming.keys import STREAMS
from web.streaming.session import StreamSession

CLIENTS = 2_000


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay([], clock=ManualClock()) as relay:
        yield relay


def job_of(relay: Relay, records: int = 1) -> Job:
    """A job with that many records, and no poller at work on it."""
    job = relay.registry.admit()
    for number in range(records):
        relay.bus.publish(job, Log(line=f"line {number + 1}"))
    return job


class Small:
    """A client whose kernel keeps next to nothing for it, and which takes what it is sent when it is told to.

    It speaks HTTP/1.0, so that what comes behind the headers is the stream and nothing else.
    """

    def __init__(self, client: ClientSession) -> None:
        address = urlsplit(str(client._base_url))
        self._address = (address.hostname, address.port)
        self.stream = b""

    async def opens(self, path: str, last_id: str | None = None) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        self.socket.setblocking(False)
        self.stream = b""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, self._address)
        named = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        head = f"GET {path} HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n{named}\r\n"
        await loop.sock_sendall(self.socket, head.encode())
        await self.reads_until(b"\r\n\r\n")
        self.stream = self.stream.partition(b"\r\n\r\n")[2]

    async def reads(self, most: int = 65_536) -> bool:
        """Take up to so many bytes, once there are any; False at the end, in order or not."""
        with suppress(ConnectionResetError):
            if data := await asyncio.get_running_loop().sock_recv(self.socket, most):
                self.stream += data
                return True
        self.socket.close()
        return False

    async def reads_until(self, word: bytes) -> None:
        while word not in self.stream:
            assert await self.reads(), "it ended before"

    @property
    def heard(self) -> list[Block]:
        return list(blocks(self.stream.replace(b":\n", b"")))


def seqs(heard: list[Block]) -> list[int]:
    return [block.says["seq"] for block in heard if '"seq":' in block.data and block.event != "snapshot"]


async def test_a_client_that_reads_a_byte_at_a_time_is_given_the_latest_and_is_told_how_much_it_missed(
    relay: Relay,
) -> None:
    job = job_of(relay)
    app = create_app(relay, send_timeout=3_600, heartbeat=3_600, slow_after=0)
    async with serve_app(app) as client:
        small = Small(client)
        await small.opens(f"/v1/jobs/{job.id}/events")
        await small.reads_until(b"line 1")
        # More than all buffers on the way take, a turn of the loop at a time.
        for number in range(20_000):
            relay.bus.publish(job, Progress(percent=number // 200, status="running"))
            if number % 100 == 0:
                await asyncio.sleep(0)
        for _ in range(500):
            assert await small.reads(1)
        relay.bus.publish(job, Done(urls=("https://a/b",)))
        while await small.reads():
            pass
        assert len(app[STREAMS]) == 0

    heard = small.heard
    told, missed = seqs(heard), sum(block.says["missed"] for block in heard if block.event == "skipped")
    assert (told[0], told[-1], heard[-1].event) == (1, 20_002, "done")
    assert told == sorted(set(told))
    assert missed > 0
    assert len(told) + missed == 20_002, "what it was not told it was told of"


async def test_a_client_that_a_burst_put_behind_for_a_moment_is_told_all(relay: Relay) -> None:
    job = job_of(relay)
    app = create_app(relay, send_timeout=3_600, heartbeat=3_600, slow_after=3_600)
    async with serve_app(app) as client:
        small = Small(client)
        await small.opens(f"/v1/jobs/{job.id}/events")
        await small.reads_until(b"line 1")
        for number in range(5_000):
            relay.bus.publish(job, Progress(percent=number // 50, status="running"))
            if number % 100 == 0:
                await asyncio.sleep(0)
        relay.bus.publish(job, Done(urls=("https://a/b",)))
        assert [isinstance(stream, StreamSession) and stream.slow for stream in app[STREAMS]] == [True], "it is behind"
        while await small.reads():
            pass

    assert seqs(small.heard) == list(range(1, 5_003))


async def test_a_client_too_slow_for_the_relay_is_cut_off_and_gets_the_end_when_it_comes_back(relay: Relay) -> None:
    job = job_of(relay)
    app = create_app(relay, send_timeout=0.05, heartbeat=3_600)
    async with serve_app(app) as client:
        small = Small(client)
        path = f"/v1/jobs/{job.id}/events"
        await small.opens(path)
        await small.reads_until(b"line 1")
        (stream,) = app[STREAMS]
        for number in range(500):
            relay.bus.publish(job, Log(line=f"{number}" + "x" * 2_000))
        relay.bus.publish(job, Done(urls=("https://a/b",)))
        await stream.done.wait()
        while await small.reads():
            pass
        heard = small.heard
        again = await client.get(path, headers={"Last-Event-ID": heard[-1].id})
        rest = list(blocks((await again.read()).replace(b":\n", b"")))

    assert heard[-1].event != "done"
    assert seqs(heard) + seqs(rest) == list(range(1, 503))
    assert rest[-1].event == "done"


@pytest.mark.parametrize("kept", [1_000, 10])
async def test_a_laptop_that_slept_resumes_or_is_told_of_the_gap(kept: int) -> None:
    """Asleep, it reads nothing: the relay gives it up. Awake, it finds a dead connection, and comes back."""
    async with Relay([], journal=MemoryJournal(Retention(records=kept), epoch="e"), clock=ManualClock()) as relay:
        job = job_of(relay, 2)
        app = create_app(relay, send_timeout=0.05, heartbeat=3_600)
        async with serve_app(app) as client:
            laptop = Small(client)
            await laptop.opens("/v1/events")
            await laptop.reads_until(b"line 2")
            (stream,) = app[STREAMS]
            for number in range(100):
                relay.bus.publish(job, Log(line=f"{number}" + "x" * 8_000))
            await stream.done.wait()
            while await laptop.reads():
                pass
            before = laptop.heard
        # It comes back to a server that gives nobody up, however seldom a busy machine lets the laptop read.
        async with serve(relay, send_timeout=3_600, heartbeat=3_600) as client:
            laptop = Small(client)
            await laptop.opens("/v1/events", before[-1].id)
            await laptop.reads_until(b'"seq":102')
            while not laptop.stream.endswith(b"\n\n"):
                await laptop.reads()
            after = [block for block in laptop.heard if block.event != "bye"]
            laptop.socket.close()

    last = before[-1].says["seq"]
    assert seqs(before) == list(range(1, last + 1))
    if kept == 1_000:
        assert seqs(after) == list(range(last + 1, 103))
    else:
        assert [block.event for block in after] == ["gap", "snapshot"]
        assert after[0].says == {"from": f"e-{last}", "to": "e-102", "missed": 102 - last}
        assert [(one["job"], one["seq"]) for one in after[1].says["jobs"]] == [(job.id, 102)]


async def test_a_client_that_is_cut_off_again_and_again_anywhere_has_the_whole_story_once(relay: Relay) -> None:
    chance = random.Random(38)
    job, path = job_of(relay, 300), ""
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    path, heard, connections = f"/v1/jobs/{job.id}/events", list[Block](), 0
    async with serve(relay) as client:
        small = Small(client)
        while not heard or heard[-1].event != "done":
            await small.opens(path, heard[-1].id if heard else None)
            most = chance.randrange(6_000)
            while len(small.stream) < most and await small.reads(most - len(small.stream)):
                pass
            small.socket.close()
            heard += small.heard
            connections += 1
        again = await client.get(path, headers={"Last-Event-ID": heard[-1].id})

    assert seqs(heard) == list(range(1, 302))
    assert connections > 10
    assert again.status == 204


@asynccontextmanager
async def room_for(connections: int) -> AsyncGenerator[None]:
    """Both ends of so many connections are descriptors of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * connections + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this needs {needed:,} file descriptors, and the system allows {hard:,} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_of_2000_clients_that_come_back_at_once_each_is_served_or_told_when_to_come(relay: Relay) -> None:
    job = job_of(relay, 3)
    app = create_app(relay, max_streams=CLIENTS // 2, heartbeat=3_600, send_timeout=3_600)
    async with room_for(CLIENTS), serve_app(app, backlog=CLIENTS) as client:
        crowd = [Small(client) for _ in range(CLIENTS)]
        async with asyncio.TaskGroup() as tasks:
            for one in crowd:
                tasks.create_task(one.opens("/v1/events", f"{relay.journal.epoch}-1"))
        first = [asyncio.create_task(one.reads_until(b"\n\n")) for one in crowd]
        await asyncio.gather(*first)
        served = [one for one in crowd if not one.stream.lstrip(b":\n").startswith(b"retry")]
        for one in served:
            await one.reads_until(b"line 3")
        relay.bus.publish(job, Done(urls=("https://a/b",)))
        for one in served:
            await one.reads_until(b"event: done")
            await one.reads_until(b"\n\n")
            one.socket.close()
        turned_away = [one for one in crowd if one not in served]
        for one in turned_away:
            one.socket.close()

    assert len(served) == CLIENTS // 2
    assert Counter(tuple(seqs(one.heard)) for one in served) == {(2, 3, 4): CLIENTS // 2}
    said = Counter((block.event, block.id) for one in turned_away for block in one.heard)
    assert said == {("busy", f"{relay.journal.epoch}-1"): CLIENTS // 2}
    pauses = [int(re.findall(rb"^retry: ([0-9]+)$", one.stream, re.MULTILINE)[0]) for one in turned_away]
    assert (min(pauses) >= 2_000, max(pauses) <= 10_000) == (True, True)
    seconds = Counter(pause // 1_000 for pause in pauses)
    assert max(seconds.values()) < CLIENTS // 4, f"all come back at once: {seconds}"
