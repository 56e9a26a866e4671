"""Two users of one relay, for a whole run: no byte about the jobs of one reaches the other, wherever it asks."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientResponse, ClientSession, ClientTimeout
from aiohttp.web import AppRunner, TCPSite

from relay import Journal, Relay
from relay.jobs.observations import Answer, Observation, Result
from relay.journal import MemoryJournal, Retention, SqliteJournal
from relay.testing import ManualClock
from tests.relay.scripted import TwoStep
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer
from web import create_app

JOBS: Final = 50
STEPS: Final = 4
INTERVAL: Final = 2.5

SSE: Final = {"Accept": "text/event-stream"}
_TERMINAL: Final = b"event: done\n"
_MISSED: Final = re.compile(rb'"missed":\s*(\w+)')


class Studio(TwoStep):
    """Runs each task in a few steps. Whatever it says about a task has the name of that in it, which nobody guesses."""

    def __init__(self) -> None:
        super().__init__(lambda _: {}, interval=INTERVAL)
        self.polled: dict[str, int] = {}

    async def submit(self, input: Mapping[str, Any]) -> str:
        self.submitted.append(input)
        return f"task-{mark(input['prompt'])}"

    async def observe(self, tasks: Sequence[str]) -> Answer:
        return Answer(listed=len(tasks), tasks={task: self._of(task) for task in tasks})

    def _of(self, task: str) -> Observation:
        step = self.polled[task] = self.polled.get(task, 0) + 1
        if step > STEPS:
            result = Result(urls=(f"https://files.example/{task}.mp4",), media_types=("video/mp4",))
            return Observation(status="succeeded", raw_status=f"over {task}", result=result)
        return Observation(
            status="running",
            raw_status=f"step {step} of {task}",
            percent=20 * step,
            source="reported",
            log=(f"at {task}",),
        )


def mark(text: object) -> str:
    """A text that is in nothing else by chance."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:16]


class User:
    """What one user has been sent so far, in all streams and responses together."""

    def __init__(self, client: ClientSession, name: str, key: str) -> None:
        self.client = client
        self.name = name
        self.key = bearer(key)
        self.received: list[bytes] = []
        self.jobs: list[str] = []

    async def submit(self, number: int) -> int:
        body = {"upstream": "scripted", "input": {"prompt": f"{self.name} {number}"}}
        key = {"Idempotency-Key": f"key {number}"}
        answered = await self.client.post("/v1/jobs", json=body, headers=self.key | key)
        self.jobs.append(json.loads(await self._keep(answered))["job"])
        return answered.status

    async def follow_task(self, task: str) -> None:
        body = {"upstream": "scripted", "task": task}
        answered = await self.client.post("/v1/jobs", json=body, headers=self.key)
        self.jobs.append(json.loads(await self._keep(answered))["job"])

    async def ask(self, path: str, method: str = "GET", **headers: str) -> int:
        """The status of one more response, whose head and body are kept."""
        async with self.client.request(method, path, headers=self.key | headers) as answered:
            await self._keep(answered)
            return answered.status

    async def follow(self, path: str, ends: int, **headers: str) -> None:
        """Read a stream until so many jobs have ended."""
        async with self.client.get(path, headers=self.key | headers) as answered:
            assert answered.status == 200
            whole = b""
            while whole.count(_TERMINAL) < ends:
                chunk = await answered.content.readany()
                assert chunk, "the stream ended before"
                whole += chunk
            self.received.append(whole)

    async def _keep(self, answered: ClientResponse) -> bytes:
        body = await answered.read()
        self.received += [str(sorted(answered.headers.items())).encode(), body]
        return body

    def sees_nothing_of(self, other: "User") -> None:
        """No text that belongs to *other* was received, and no number of missing records."""
        whole = b"\n".join(self.received)
        secrets = {*other.jobs, *(mark(f"{other.name} {number}") for number in range(JOBS))}
        assert [secret for secret in secrets if secret.encode() in whole] == []
        assert set(_MISSED.findall(whole)) <= {b"null"}


class Run:
    """A relay, its two users, and the streams that they read for the whole run."""

    def __init__(self, relay: Relay, clock: ManualClock, client: ClientSession) -> None:
        self.relay = relay
        self.clock = clock
        self.ann, self.bob = User(client, "ann", ANN), User(client, "bob", BOB)

    async def begin(self) -> None:
        """Let both submit in turn, and read what is theirs meanwhile."""
        for number in range(JOBS):
            assert [await self.ann.submit(number), await self.bob.submit(number)] == [201, 201]

    async def finish(self) -> None:
        while not all(job.ended for job in self.relay.jobs()):
            await self.clock.advance(INTERVAL)

    async def with_streams(self, *paths: str, **headers: str) -> None:
        """Bring all jobs to their end while both users read these streams."""
        users = (self.ann, self.bob)
        reading = [asyncio.create_task(user.follow(path, JOBS, **headers)) for user in users for path in paths]
        await self.finish()
        await asyncio.gather(*reading)


@asynccontextmanager
async def running(journal: Journal, first: int = 0, **options: Any) -> AsyncGenerator[Run]:
    clock, numbers = ManualClock(), count(first)
    relay = Relay([Studio()], clock=clock, journal=journal, new_job_id=lambda: f"job_{mark(next(numbers))}")
    app = create_app(relay, access=SETTINGS, send_timeout=3_600, slow_after=3_600, **options)
    runner = AppRunner(app, access_log=None)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0).start()
    try:
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with ClientSession(address, timeout=ClientTimeout(total=None)) as client:
            yield Run(relay, clock, client)
    finally:
        await runner.cleanup()


async def ask_everywhere(user: User, other: User) -> None:
    """Ask for everything there is, and for what belongs to *other*, by its ids, its tasks, its keys and positions."""
    for path in ("/v1/jobs", "/v1/videos?limit=100", "/v1/session", "/v1/models"):
        assert await user.ask(path) == 200
    assert await user.ask("/v1/events", Accept="application/json") == 200
    for accept in ("text/event-stream", "application/x-ndjson"):
        assert await user.ask("/v1/events?follow=false", Accept=accept) == 200
    for job in other.jobs[:3]:
        # The id that was asked for is in the answer; nothing else about it is.
        mixed = f"/v1/events?job={user.jobs[0]}&job={job}"
        statuses = [
            await user.ask(path.replace("{job}", job), method, **accept)
            for method, path, accept in (
                ("GET", "/v1/jobs/{job}", {}),
                ("POST", "/v1/jobs/{job}/cancel", {}),
                ("GET", "/v1/jobs/{job}/events", {}),
                ("GET", mixed, {}),
                ("GET", mixed, {"Accept": "application/json"}),
                ("GET", "/v1/videos/{job}", {}),
                ("GET", "/v1/videos/{job}/content", {}),
                ("GET", "/v1/videos?after={job}", {}),
                ("DELETE", "/v1/videos/{job}", {}),
                ("GET", "/v1/video/generations/{job}", {}),
                ("GET", "/v1/responses/resp_{job}", {}),
                ("GET", "/v1/responses/resp_{job}?stream=true&starting_after=0", {}),
                ("POST", "/v1/responses/resp_{job}/cancel", {}),
            )
        ]
        assert statuses == [404] * len(statuses)
        assert [await user.ask(path, **SSE) for path in (f"/v1/jobs/{job}/events", mixed)] == [200, 200]
        user.received = [text.replace(job.encode(), b"(asked for)") for text in user.received]


async def resume_everywhere(relay: Relay, user: User) -> None:
    """Resume from every position there is, from one behind the last one, and from some that are none."""
    epoch, head = relay.journal.epoch, relay.journal.head
    named = [f"{epoch}-{offset}" for offset in [*range(0, head, head // 9), head - 1, head, head + 1, head + 1_000]]
    for position in [*named, "unknown-0", "gone-0", f"{'0' * 8}-{head}", "x", "-1"]:
        assert await user.ask("/v1/events?follow=false", **SSE, **{"Last-Event-ID": position}) == 200
    for position in [*named[:2], *named[-3:]]:
        whole = await asyncio.wait_for(first_page(user, position), 60)
        user.received.append(whole)


async def first_page(user: User, position: str) -> bytes:
    """What a live stream begins with that resumes from *position*."""
    headers = user.key | SSE | {"Last-Event-ID": position}
    async with user.client.get("/v1/events", headers=headers) as answered:
        return await answered.content.readany()


async def look_around(run: Run) -> None:
    """Let each user ask for all there is, and check what it was sent in the end."""
    for user, other in ((run.ann, run.bob), (run.bob, run.ann)):
        await ask_everywhere(user, other)
        await resume_everywhere(run.relay, user)
    run.ann.sees_nothing_of(run.bob)
    run.bob.sees_nothing_of(run.ann)


async def test_each_user_is_sent_every_record_of_its_own_and_no_byte_of_the_other(take_over: bool) -> None:
    async with running(MemoryJournal(), take_over=take_over) as run:
        await run.begin()
        await run.with_streams("/v1/events", "/v1/events?level=info", **SSE)
        for user in (run.ann, run.bob):
            whole = b"\n".join(user.received)
            assert all(record.json in whole for record in run.relay.journal.read(0, user.jobs, limit=10_000))

        await look_around(run)


async def test_what_is_no_longer_kept_is_reported_without_numbers_and_states_are_those_of_the_user() -> None:
    async with running(MemoryJournal(Retention(records=150))) as run:
        await run.begin()
        await run.finish()
        await look_around(run)

        gaps = b"\n".join(run.ann.received).count(b"event: gap\n")
        assert gaps > 10


async def test_owners_and_their_keys_survive_a_restart(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "relay.db")) as journal:
        async with running(journal) as run:
            await run.begin()
            await run.clock.advance(2 * INTERVAL)
            jobs = run.ann.jobs, run.bob.jobs
    with closing(SqliteJournal(tmp_path / "relay.db")) as journal:
        async with running(journal, 1_000) as run:
            run.ann.jobs, run.bob.jobs = list(jobs[0]), list(jobs[1])
            assert [await run.ann.submit(0), await run.bob.submit(0)] == [200, 200]
            assert (run.ann.jobs[-1], run.bob.jobs[-1]) == (jobs[0][0], jobs[1][0])
            await run.with_streams("/v1/events", **SSE)
            await look_around(run)


async def test_one_task_that_both_follow_is_a_job_of_each() -> None:
    async with running(MemoryJournal()) as run:
        task = mark("shared")
        for user in (run.ann, run.bob):
            await user.follow_task(task)
            await user.follow_task(task)
        assert (len(set(run.ann.jobs)), len(set(run.bob.jobs))) == (1, 1)
        await run.finish()
        for user, other in ((run.ann, run.bob), (run.bob, run.ann)):
            assert await user.ask("/v1/jobs") == 200
            assert await user.ask("/v1/events?follow=false", **SSE) == 200
            assert other.jobs[0].encode() not in b"\n".join(user.received)
            assert task.encode() in b"\n".join(user.received)
