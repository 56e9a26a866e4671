"""A relay that is killed again and again, and clients who stay: what each needs for that."""

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import ClientError, ClientResponse, ClientSession
from httpx_sse._decoders import SSEDecoder

from relay.cli.loops import VARIABLE
from relay.events import Position
from relay.testing import Scenario, ScriptedUpstream
from relay.testing.bodies import FakeTask

__all__ = ["Block", "KilledRelay", "Reader", "Submitter", "Upstream"]

SCRIPT: Final = Path(sys.executable).parent / "relay"

GIVES_UP: Final = (asyncio.IncompleteReadError, ClientError, ConnectionError)
"""What a client sees of a kill."""


class KilledRelay:
    """`relay serve` in *folder*, always on the same port; *ready* from the moment it says so until it is to die."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.ready = asyncio.Event()
        self.said: list[str] = []
        self._folder = folder
        self._port = _free_port()
        kept = {name: value for name, value in os.environ.items() if name == VARIABLE or not name.startswith("RELAY_")}
        self._environ = kept | environ
        self._process: Process | None = None
        self._dying = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Return when it serves."""
        self._dying = False
        self._process = await asyncio.create_subprocess_exec(
            SCRIPT,
            *("serve", "--port", str(self._port)),
            cwd=self._folder,
            env=self._environ,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode():
            if re.search("serving on", line):
                self.ready.set()
                return
            self.said.append(line)
        raise AssertionError(f"it ended without serving: {self.said}")

    def strike(self) -> None:
        """`kill -9`, at once. Nobody who loses it from now on takes it for ready."""
        self._signal(signal.SIGKILL)

    async def kill(self) -> None:
        """`kill -9`, unless that was done, and wait for the end."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        return await self._end(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> Process:
        assert self._process is not None
        # Once: sending a second signal to who has just died would take the news of it from asyncio.
        if not self._dying:
            self._dying = True
            self.ready.clear()
            self._process.send_signal(number)
        return self._process

    async def _end(self, number: signal.Signals) -> int:
        process = self._signal(number)
        assert process.stderr is not None
        self.said += (await process.stderr.read()).decode().splitlines()
        status = await process.wait()
        self._process = None
        return status

    async def close(self) -> None:
        """Leave no process behind, whatever went wrong."""
        if self._process is not None:
            await self.kill()


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

    What it was told lies in *story*, and whatever is no record, but a `bye`, in *notices*. With *leaves_after* it
    breaks off by itself as well.
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
        elif block.event != "bye":
            self.notices.append(block)


async def _blocks(response: ClientResponse) -> AsyncIterator[Block]:
    """The whole blocks of a stream. [spec] a block that is cut off is thrown away."""
    decoder = SSEDecoder()
    async for line in response.content:
        block = decoder.decode(line.decode().rstrip("\n"))
        if block is not None:
            yield Block(block.id, block.event, block.data)


class Submitter:
    """A client who wants each thing once: it repeats a request that was cut off with the same key."""

    def __init__(self, relay: KilledRelay, client: ClientSession) -> None:
        self.jobs: dict[str, str] = {}
        self.repeated = 0
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


def _free_port() -> int:
    """A port that no outgoing connection is given: one that reaches for a dead server there may reach itself.

    Not by the seed, so that two tests of one seed at the same time do not take each other's while it is free.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
