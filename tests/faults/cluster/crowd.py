"""The clients of a soak: readers that move between the nodes, and one that submits and follows until it has answers."""

import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from relay.clock import SystemClock
from relay.events import Level, Position
from tests.faults.cluster.history import Answer, Block, Connection, Story
from tests.faults.killing import ENDS

__all__ = ["Caller", "Known", "Reader"]

GIVES_UP: Final = (ClientError, ConnectionError, TimeoutError)
PAUSE: Final = 0.1
"""Seconds before a client tries the next node."""

MOST_GONE: Final = 50
"""How often a job may be unknown before its reader reads another one: a new epoch has none that has ended."""

SILENCE: Final = 2.0
"""Seconds without a byte after which a reader takes its node for dead."""


class Known:
    """Each block once, however many readers have it, and the jobs whose end anybody has read."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self._blocks: dict[bytes, Block] = {}

    def block(self, text: bytes) -> Block | None:
        """The block with this text; None for a comment."""
        if (known := self._blocks.get(text)) is not None:
            return known
        lines = [line for line in text.decode().split("\n") if line and not line.startswith(":")]
        if not lines:
            return None
        fields = dict(line.split(": ", 1) for line in lines)
        block = self._blocks[text] = Block(fields["event"], fields["data"], fields["id"])
        if block.is_record and block.event in ENDS:
            self.ended.add(json.loads(block.data)["job"])
        elif block.event == "snapshot":  # an end that nobody read before a loss is in the states behind it alone
            self.ended.update(job["job"] for job in json.loads(block.data)["jobs"] if job["terminal"])
        return block


class Reader:
    """Reads all jobs, from *level* on, or one after the other, at one node after the other; it brings its cursor along.

    While it does not *stay*, it leaves a node by itself after a while.
    """

    def __init__(
        self,
        name: str,
        client: ClientSession,
        nodes: Sequence[str],
        known: Known,
        chance: random.Random,
        *,
        level: Level = "debug",
        jobs: Callable[[], str | None] | None = None,
    ) -> None:
        self.stories: list[Story] = []
        self.stay = False
        self.gone = 0
        self.cursor = ""
        self._name = name
        self._client = client
        self._nodes = nodes
        self._known = known
        self._chance = chance
        self._level: Level = level
        self._jobs = jobs

    @property
    def follows_all(self) -> bool:
        """Whether it reads every record of all jobs."""
        return self._jobs is None and self._level == "debug"

    @property
    def offset(self) -> int:
        """The offset of its cursor."""
        position = Position.parse(self.cursor)
        return 0 if position is None else position.offset

    async def run(self) -> None:
        """Read until cancelled, or until there are no jobs any more."""
        if self._jobs is None:
            await self._read("", "/v1/events")
        while self._jobs is not None and (job := self._jobs()) is not None:
            await self._read(job, f"/v1/jobs/{job}/events")

    async def _read(self, job: str, path: str) -> None:
        """Read one stream to its end."""
        self.cursor = ""
        story = Story(reader=f"{self._name} of {job or self._level}", connections=[], job=job, level=self._level)
        self.stories.append(story)
        self.gone = 0
        while self.gone < MOST_GONE:
            with suppress(*GIVES_UP):
                if await self._connect(story, path):
                    return
            await SystemClock().sleep(PAUSE * self._chance.random())

    async def _connect(self, story: Story, path: str) -> bool:
        """One connection; whether it was the last one."""
        node = self._chance.choice(self._nodes)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        url = f"{node}{path}?level={self._level}"
        async with self._client.get(url, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                return response.status == 204
            story.connections.append(connection := Connection(node=node, cursor=self.cursor, blocks=[]))
            leaves_after = self._chance.randint(1, 120)
            async for block in self._blocks(response):
                # A node that does not know the job yet is no reason to forget the cursor.
                if block.event == "gone":
                    self.gone += 1
                    return False
                connection.blocks.append(block)
                self.cursor = block.id
                if len(connection.blocks) >= leaves_after and not self.stay:
                    return False
        return False

    async def _blocks(self, response: ClientResponse) -> AsyncIterator[Block]:
        """The whole blocks. [spec] a block that is cut off is discarded."""
        waiting = b""
        async for chunk in response.content.iter_any():
            *whole, waiting = (waiting + chunk).split(b"\n\n")
            for text in whole:
                if (block := self._known.block(text)) is not None:
                    yield block


class Caller:
    """Submits and follows at any node, and repeats a request that was cut off, or put off, at any other."""

    def __init__(self, client: ClientSession, nodes: Sequence[str], chance: random.Random) -> None:
        self.answers: list[Answer] = []
        self.repeated = 0
        self.put_off = 0
        self._client = client
        self._nodes = nodes
        self._chance = chance

    async def submit(self, key: str, upstream: str) -> str:
        """The job that *key* stands for."""
        return await self._post(key, {"upstream": upstream, "input": {"prompt": key}}, {"Idempotency-Key": key})

    async def follow(self, task: str, upstream: str) -> str:
        """The job that follows *task*."""
        return await self._post(f"follow {task}", {"upstream": upstream, "task": task}, {})

    async def nowhere(self, jobs: Sequence[str]) -> list[str]:
        """Those of *jobs* that no node knows."""
        return [
            job for job in jobs if [await self._status(node, job) for node in self._nodes] == [404] * len(self._nodes)
        ]

    async def _status(self, node: str, job: str) -> int:
        with suppress(*GIVES_UP):
            async with self._client.get(f"{node}/v1/jobs/{job}", timeout=ClientTimeout(total=5.0)) as response:
                return response.status
        return 0

    async def seen(self, job: str) -> str:
        """*job* as each node has it."""
        views: list[str] = []
        for node in self._nodes:
            try:
                async with self._client.get(f"{node}/v1/jobs/{job}", timeout=ClientTimeout(total=5.0)) as response:
                    views.append((await response.text())[:400])
            except GIVES_UP as error:
                views.append(repr(error))
        return "; ".join([job, *views])

    async def _post(self, key: str, body: dict[str, object], headers: dict[str, str]) -> str:
        timeout = ClientTimeout(total=15.0)
        while True:
            node = self._chance.choice(self._nodes)
            with suppress(*GIVES_UP):
                async with self._client.post(
                    f"{node}/v1/jobs", json=body, headers=headers, timeout=timeout
                ) as response:
                    answer = await response.json()
                if response.status in (200, 201):
                    self.answers.append(Answer(key, answer["job"]))
                    return str(answer["job"])
                assert response.status in (429, 503), answer
                self.put_off += 1
            self.repeated += 1
            await SystemClock().sleep(PAUSE * (0.5 + self._chance.random()))
