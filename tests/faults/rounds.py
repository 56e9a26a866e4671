"""Rounds of `kill -9`, and what is left to show at the end of them."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

from relay.clock import SystemClock
from relay.events import TERMINALS, Failed, Record
from relay.journal import SqliteJournal
from tests.faults.killing import Block, KilledRelay, Reader, Submitter, Upstream

__all__ = ["Verdict", "run_rounds"]

PATIENCE: Final = 120.0
"""A safety net for each round: nothing here waits for time to pass."""

SPEED: Final = 10.0
"""A task of the upstream's 41 seconds takes four, and lives through a kill or more."""

SCENARIOS: Final = ("happy", "gap", "violation", "reappears", "error-item")
READERS_OF_ONE: Final = 6
MOST_RECORDS: Final = 50

CONFIG: Final = """
[journal]
url = "sqlite:relay.db"
keep = {{ records = 10_000_000, bytes = 10_000_000_000 }}

[[upstreams]]
kind = "sora"
base_url = "{url}"
token = "env:TOKEN"
interval = "100ms"
"""


class Verdict(Struct, kw_only=True):
    """What the rounds have shown; the first figures say how much was tried, those from *lost* on must be 0."""

    rounds: int
    jobs: int
    records: int
    deliveries: int
    connections: int
    requests_repeated: int
    cut_off_submissions: int = 0
    cut_off_but_taken: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    altered: int = 0
    notices: int = 0
    holes: int = 0
    without_one_end: int = 0
    submitted_twice: int = 0
    never_submitted: int = 0
    keys_of_another_job: int = 0
    complaints: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What must be nothing, and is not."""
        fields = self.__struct_fields__
        must_be_zero = fields[fields.index("lost") :]
        return {name: count for name in must_be_zero if (count := getattr(self, name))}


async def run_rounds(folder: Path, rounds: int, seed: int) -> Verdict:
    """Kill a relay *rounds* times while jobs run and ten clients read; then let all of it end, and compare."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(clock=SystemClock(SPEED)))
        (folder / "relay.toml").write_text(CONFIG.format(url=upstream.url))
        relay = KilledRelay(folder, {"TOKEN": upstream.token})
        stack.push_async_callback(relay.close)
        connector = TCPConnector(limit=0, force_close=True)
        client = await stack.enter_async_context(ClientSession(connector=connector, timeout=ClientTimeout(total=None)))
        async with asyncio.TaskGroup() as tasks:
            crowd = _Crowd(relay, upstream, client, tasks)
            for number in range(rounds):
                async with asyncio.timeout(PATIENCE):
                    await relay.start()
                    await crowd.one_round(number, chance)
                    await relay.kill()
            async with asyncio.timeout(PATIENCE):
                await relay.start()
            await crowd.settled()
            async with asyncio.timeout(PATIENCE):
                assert await relay.stop() == 0
        return _verdict(folder, rounds, crowd, upstream)


class _Crowd:
    """Everybody at the relay: who submits, who reads all, and who reads one job after the other."""

    def __init__(self, relay: KilledRelay, upstream: Upstream, client: ClientSession, tasks: asyncio.TaskGroup) -> None:
        self.relay = relay
        self.submitter = Submitter(relay, client)
        self.prompts: dict[str, str] = {}
        breaks = (None, None, 50, 7)
        self.of_all = [Reader(relay, client, "/v1/events", leaves_after=after) for after in breaks]
        self.of_one: dict[str, Reader] = {}
        self._upstream = upstream
        self._client = client
        self._tasks = tasks
        self._to_read: asyncio.Queue[str] = asyncio.Queue()
        self._submissions: set[asyncio.Task[None]] = set()
        self._reading = [tasks.create_task(reader.run()) for reader in self.of_all]
        self._reading += [tasks.create_task(self._read_one_by_one(turn)) for turn in range(READERS_OF_ONE)]

    async def one_round(self, number: int, chance: random.Random) -> None:
        """Submit something, and return at a moment that is random in what has been told, not in time."""
        moment = self._tasks.create_task(self._moment(chance))
        await asyncio.sleep(0)  # so that it is waited for before it can come
        if number and chance.random() < 0.5:
            # Who has an answer may ask again, and gets the same.
            self._submit(chance.choice(sorted(self.prompts)))
        for turn in range(chance.randint(1, 3)):
            self._submit(f"key {number}.{turn}", chance.choice(SCENARIOS))
        await moment

    async def _moment(self, chance: random.Random) -> None:
        """When to kill."""
        watcher = self.of_all[0]
        match chance.choice(("taken", "heard", "told", "told", "told")):
            case "taken":
                await self._strike_as_it_takes()
            case "heard":
                await watcher.hears(_is_being_submitted)
            case _:
                await watcher.reaches(watcher.offset + chance.randint(0, MOST_RECORDS))

    async def _strike_as_it_takes(self) -> None:
        """Kill the relay between what the upstream does, which costs money, and its answer."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def strike() -> None:
            self._upstream.on_taken = None
            self.relay.strike()
            taken.set_result(None)

        self._upstream.on_taken = strike
        await taken

    async def settled(self) -> None:
        """Return when every job has ended, and everybody has been told all there is.

        How long that takes depends on the machine and on what still runs, so time alone is no failure: it is one if in
        PATIENCE seconds nobody is told anything, or if that many turns bring no end as there are jobs to end, and one.
        """
        settling = self._tasks.create_task(self._settle())
        turns = 1 + len(self._unended())
        for _ in range(turns):
            told = self._told()
            await asyncio.wait([settling], timeout=PATIENCE)
            if settling.done() or self._told() == told:
                break
        if not settling.done():
            settling.cancel()
            raise AssertionError(f"it does not settle: {'; '.join(self._behind())}")

    async def _settle(self) -> None:
        await asyncio.gather(*self._submissions)
        await self._to_read.join()
        head = await self.submitter.position()
        for reader in self.of_all:
            await reader.reaches(head)
        for task in self._reading:
            task.cancel()

    def _told(self) -> int:
        """How much all readers have been told so far."""
        return sum(len(reader.story) for reader in (*self.of_all, *self.of_one.values()))

    def _unended(self) -> set[str]:
        """The jobs of which the first reader of all was not told the end."""
        ends = {json.loads(block.data)["job"] for block in self.of_all[0].story if block.event in _ENDS}
        return set(self.submitter.jobs.values()) - ends

    def _behind(self) -> Iterator[str]:
        """Who waits for what, in words."""
        unended = sorted(self._unended())
        yield f"{len(unended)} jobs have no end ({', '.join(unended[:5]) or 'none'})"
        yield f"{sum(not task.done() for task in self._submissions)} submissions have no answer"
        yield f"{self._to_read.qsize()} jobs wait for a reader"
        furthest = max(reader.offset for reader in self.of_all)
        for reader in (*self.of_all, *self.of_one.values()):
            if not reader.done and (reader.offset < furthest or reader not in self.of_all):
                yield f"{reader.path} is told up to {reader.offset} of {furthest} in {reader.connections} connections"

    def _submit(self, key: str, scenario: str | None = None) -> asyncio.Task[None]:
        if scenario is not None:
            self.prompts[key] = f"[{scenario}] {key}"
        task = self._tasks.create_task(self._submitted(key, read=scenario is not None))
        self._submissions.add(task)
        return task

    async def _submitted(self, key: str, *, read: bool) -> None:
        job = await self.submitter.submit(key, self.prompts[key])
        if read:
            self._to_read.put_nowait(job)

    async def _read_one_by_one(self, turn: int) -> None:
        while True:
            job = await self._to_read.get()
            path = f"/v1/jobs/{job}/events"
            self.of_one[job] = Reader(self.relay, self._client, path, leaves_after=turn * 5 or None)
            await self.of_one[job].run()
            self._to_read.task_done()


_ENDS: Final = frozenset(kind.__struct_config__.tag for kind in TERMINALS)


def _is_being_submitted(block: Block) -> bool:
    return block.event == "accepted" and json.loads(block.data)["task"] is None


def _verdict(folder: Path, rounds: int, crowd: _Crowd, upstream: Upstream) -> Verdict:
    with closing(SqliteJournal(folder / "relay.db")) as journal:
        written = list(journal.read(0, limit=10_000_000))
        keys = {stored.key: stored.id for stored in journal.recover()}
    jobs: dict[str, list[Record]] = {}
    for record in written:
        jobs.setdefault(record.job, []).append(record)
    readers = [*crowd.of_all, *crowd.of_one.values()]
    verdict = Verdict(
        rounds=rounds,
        jobs=len(jobs),
        records=len(written),
        deliveries=sum(len(reader.story) for reader in readers),
        connections=sum(reader.connections for reader in readers),
        requests_repeated=crowd.submitter.repeated,
    )
    for reader in crowd.of_all:
        _compare(verdict, written, reader)
    for job, reader in crowd.of_one.items():
        _compare(verdict, jobs[job], reader)
    for story in jobs.values():
        verdict.holes += [record.seq for record in story] != list(range(1, len(story) + 1))
        verdict.without_one_end += [record.terminal for record in story] != [False] * (len(story) - 1) + [True]
    verdict.holes += [record.position.offset for record in written] != list(range(1, len(written) + 1))
    taken = Counter(task.input["prompt"] for task in upstream.tasks.values())
    verdict.submitted_twice = sum(taken.values()) - len(taken) + max(0, upstream.requests["nf/create"] - len(jobs))
    prompts = {job: crowd.prompts[key] for key, job in crowd.submitter.jobs.items()}
    lost = [job for job, story in jobs.items() if _is_lost(story)]
    verdict.cut_off_submissions = len(lost)
    verdict.cut_off_but_taken = sum(taken[prompts[job]] for job in lost)
    verdict.never_submitted = sum(not taken[prompts[job]] for job in jobs.keys() - set(lost))
    verdict.keys_of_another_job = sum(keys.get(key) != job for key, job in crowd.submitter.jobs.items())
    verdict.keys_of_another_job += len(keys) != len(crowd.prompts)
    verdict.complaints = len(crowd.relay.said)
    return verdict


def _compare(verdict: Verdict, written: Sequence[Record], reader: Reader) -> None:
    """Count in what a reader's story differs from what is *written*."""
    expected = {str(record.position): record for record in written}
    told = Counter(block.id for block in reader.story)
    verdict.lost += len(expected.keys() - told.keys())
    verdict.duplicated += len(reader.story) - len(told)
    verdict.reordered += sum(later.offset < earlier.offset for earlier, later in pairwise(reader.story))
    verdict.notices += len(reader.notices)
    for block in reader.story:
        record = expected.get(block.id)
        verdict.altered += record is None or (record.event.type, record.json.decode()) != (block.event, block.data)


def _is_lost(story: Sequence[Record]) -> bool:
    end = story[-1].event
    return isinstance(end, Failed) and end.kind == "lost"
