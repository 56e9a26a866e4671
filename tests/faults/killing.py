"""Clients that stay while their relay is killed again and again, and the upstream behind it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp import ClientError, ClientResponse, ClientSession
from httpx_sse._decoders import SSEDecoder

from relay.clock import SystemClock
from relay.events import TERMINALS, Position
from relay.testing import Scenario, ScriptedUpstream
from relay.testing.scripted.sora_bodies import FakeTask
from tests.faults.process import KilledRelay

__all__ = ["ENDS", "Block", "Reader", "Submitter", "Upstream"]

ENDS: Final = frozenset(kind.__struct_config__.tag for kind in TERMINALS)

GIVES_UP: Final = (asyncio.IncompleteReadError, ClientError, ConnectionError)
"""What a client sees of a kill."""


class Upstream(ScriptedUpstream):
    """The scripted upstream; *on_taken* is called when it has taken a task, and has not answered yet."""

    on_taken: Callable[[], None] | None = None

    def _create(self, scenario: Scenario, input: Mapping[str, Any]) -> FakeTask:
        task = super()._create(scenario, input)
        if self.on_taken is not None:
            self.on_taken()
        return task


class Block(NamedTuple):
    """One block of a stream."""

    id: str
    event: str
    data: str

    @property
    def offset(self) -> int:
        position = Position.parse(self.id)
        assert position is not None
        return position.offset


class Reader:
    """A browser, as far as the wire goes: it comes back with the last id it saw until it is told to stop.

    What it was told lies in *story*, and whatever is no record, but a `bye` or a `heartbeat`, in *notices*. With
    *leaves_after* it breaks off by itself as well.
    """

    def __init__(
        self, relay: KilledRelay, client: ClientSession, path: str, *, leaves_after: int | None = None
    ) -> None:
        self.path = path
        self.story: list[Block] = []
        self.notices: list[Block] = []
        self.connections = 0
        self.done = False
        self._relay = relay
        self._client = client
        self._leaves_after = leaves_after
        self._last_id = ""
        self._expected: list[tuple[Callable[[Block], bool], asyncio.Future[None]]] = []

    @property
    def offset(self) -> int:
        """Up to where it has been told."""
        return self.story[-1].offset if self.story else 0

    async def reaches(self, offset: int) -> None:
        """Return when the story goes up to *offset*."""
        if self.offset < offset:
            await self.hears(lambda block: block.offset >= offset)

    async def hears(self, wanted: Callable[[Block], bool]) -> None:
        """Return when a record comes of which *wanted* is true."""
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        expected = (wanted, heard)
        self._expected.append(expected)
        try:
            await heard
        finally:
            self._expected.remove(expected)

    async def ended(self, jobs: Collection[str]) -> None:
        """Return when the end of each of *jobs* has come."""
        for job in jobs:
            ends = [block for block in self.story if _is_end_of(job, block)]
            if not ends:
                await self.hears(partial(_is_end_of, job))

    async def run(self) -> None:
        """Read until the answer is that there is nothing more."""
        while True:
            await self._relay.ready.wait()
            with suppress(*GIVES_UP):
                if not await self._connect():
                    self.done = True
                    return

    async def _connect(self) -> bool:
        self.connections += 1
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last_id} if self._last_id else {})
        async with self._client.get(f"{self._relay.address}{self.path}", headers=headers) as response:
            # [spec] 204 ends an EventSource, and so does whatever is not 200.
            assert response.status in (200, 204), f"{response.status} ends an EventSource: {await response.text()}"
            if response.status == 204:
                return False
            heard = 0
            async for block in _blocks(response):
                self._take(block)
                heard += 1
                if heard == self._leaves_after:
                    break
        return True

    def _take(self, block: Block) -> None:
        self._last_id = block.id
        if '"seq":' in block.data:
            self.story.append(block)
            for wanted, heard in self._expected:
                if not heard.done() and wanted(block):
                    heard.set_result(None)
        elif block.event not in ("bye", "heartbeat"):
            self.notices.append(block)


def _is_end_of(job: str, block: Block) -> bool:
    return block.event in ENDS and json.loads(block.data)["job"] == job


async def _blocks(response: ClientResponse) -> AsyncIterator[Block]:
    """The whole blocks of a stream. [spec] a block that is cut off is thrown away."""
    decoder = SSEDecoder()
    async for line in response.content:
        block = decoder.decode(line.decode().rstrip("\n"))
        if block is not None:
            yield Block(block.id, block.event, block.data)


class Submitter:
    """A client that wants each thing once: it repeats a request that was cut off, or put off, with the same key."""

    def __init__(self, relay: KilledRelay, client: ClientSession) -> None:
        self.jobs: dict[str, str] = {}
        self.repeated = 0
        self.put_off = 0
        self.writable = asyncio.Event()
        """Set while the relay's journal has room."""
        self.writable.set()
        self.refused = asyncio.Event()
        """Set once a submission was put off."""
        self._relay = relay
        self._client = client

    async def submit(self, key: str, prompt: str) -> str:
        """The job that *key* stands for, however often that has to be asked."""
        body = {"upstream": "sora", "input": {"prompt": prompt}}
        while True:
            await self._relay.ready.wait()
            with suppress(*GIVES_UP):
                async with self._client.post(
                    f"{self._relay.address}/v1/jobs", json=body, headers={"Idempotency-Key": key}
                ) as response:
                    answer = await response.json()
                    later = response.headers.get("Retry-After")
                if response.status == 503:
                    assert later is not None, answer
                    self.put_off += 1
                    self.refused.set()
                    await self.writable.wait()
                    await SystemClock().sleep(min(float(later), 1.0))
                    continue
                assert response.status in (200, 201), answer
                job: str = answer["job"]
                assert self.jobs.setdefault(key, job) == job, "one key, two jobs"
                return job
            self.repeated += 1

    async def position(self) -> int:
        """The offset of the newest record."""
        async with self._client.get(f"{self._relay.address}/v1/jobs") as response:
            position = Position.parse((await response.json())["position"])
        assert position is not None
        return position.offset
