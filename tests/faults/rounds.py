"""Rounds of faults, each ended by `kill -9`, and what is left to show at the end of them."""

import asyncio
import json
import random
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from relay.clock import SystemClock
from tests.faults.disk import SmallDisk
from tests.faults.killing import ENDS, Block, Reader, Submitter, Upstream
from tests.faults.process import SCRIPT, KilledRelay
from tests.faults.verdict import DEADLINE, Crowd, Replay, Verdict, judge

__all__ = ["Fault", "run_rounds"]

Fault = Literal["kill", "freeze", "full"]
"""What a round does to the relay beside ending it: nothing, SIGSTOP for longer than a deadline, or a full disk."""

PATIENCE: Final = 120.0
"""A safety net for each round: nothing here waits for time to pass."""

SPEED: Final = 10.0
"""A task of the upstream's 41 seconds takes four, and lives through a kill or more."""

SCENARIOS: Final = ("happy", "gap", "violation", "reappears", "error-item")
READERS_OF_ONE: Final = 6
REPLAY_EVERY: Final = 10
MOST_TAKEN_WHILE_FULL: Final = 20
MOST_RECORDS: Final = 50

CONFIG: Final = """
[journal]
url = "sqlite:{journal}"
keep = {{ records = 10_000_000, bytes = 10_000_000_000 }}

[[upstreams]]
kind = "sora"
base_url = "{url}"
token = "env:TOKEN"
interval = "100ms"
deadline = {deadline}
"""


async def run_rounds(
    folder: Path, faults: Sequence[Fault], seed: int, *, disk: SmallDisk | None = None, watch: bool = False
) -> Verdict:
    """A round for each of *faults* while jobs run and readers read; then let all of it end, and compare.

    The journal lies on *disk*, which "full" needs. With *watch*, the longest hold of the event loop is measured.
    """
    chance = random.Random(seed)
    holds = folder / "holds" if watch else None
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(clock=SystemClock(SPEED)))
        journal = (disk.folder if disk is not None else folder) / "relay.db"
        (folder / "relay.toml").write_text(CONFIG.format(url=upstream.url, journal=journal, deadline=DEADLINE))
        relay = KilledRelay(folder, {"TOKEN": upstream.token}, holds)
        stack.push_async_callback(relay.close)
        connector = TCPConnector(limit=0, force_close=True)
        client = await stack.enter_async_context(ClientSession(connector=connector, timeout=ClientTimeout(total=None)))
        async with asyncio.TaskGroup() as tasks:
            crowd = _Crowd(relay, upstream, client, tasks)
            for number, fault in enumerate(faults):
                async with asyncio.timeout(PATIENCE):
                    await relay.start()
                    if fault != "kill" or number % REPLAY_EVERY == 0:
                        crowd.replays.append(tasks.create_task(_replay(journal)))
                    await crowd.one_round(number, chance, strikes=fault == "kill")
                    if fault == "freeze":
                        await _freeze(relay, crowd)
                    if fault == "full" and disk is not None:
                        await _fill(disk, relay, crowd, number, chance)
                    if relay.runs:
                        await relay.kill()
            async with asyncio.timeout(PATIENCE):
                await relay.start()
            await crowd.settled()
            async with asyncio.timeout(PATIENCE):
                assert await relay.stop() == 0
        return judge(journal, crowd.at_the_end(len(faults)), upstream, holds)


async def _freeze(relay: KilledRelay, crowd: "_Crowd") -> None:
    """Let all that runs be past its deadline when the relay finds itself again; then its jobs end as they should."""
    overdue = crowd.unended()
    relay.freeze()
    await SystemClock().sleep(DEADLINE + 1.0)
    relay.thaw()
    await crowd.of_all[0].ended(overdue)


async def _fill(disk: SmallDisk, relay: KilledRelay, crowd: "_Crowd", number: int, chance: random.Random) -> None:
    """Take the disk's room away until a submission is put off, and perhaps kill the relay then; give the room back."""
    submitter = crowd.submitter
    submitter.writable.clear()
    submitter.refused.clear()
    disk.fill()
    for turn in range(MOST_TAKEN_WHILE_FULL):
        # A page of the log that has been begun may have room for another record.
        submission = crowd.submit(f"key full {number}.{turn}", chance.choice(SCENARIOS))
        refused = asyncio.create_task(submitter.refused.wait())
        await asyncio.wait([submission, refused], return_when=asyncio.FIRST_COMPLETED)
        refused.cancel()
        if submitter.refused.is_set():
            break
    if chance.random() < 0.5:
        await relay.kill()
    disk.free()
    submitter.writable.set()


async def _replay(journal: Path) -> Replay:
    replay = await asyncio.create_subprocess_exec(
        *(SCRIPT, "replay", journal, "--speed", "0", "--log-format", "json", "--level", "debug"),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, complaints = await replay.communicate()
    return Replay(await replay.wait(), out.decode().splitlines(), complaints.decode())


class _Crowd:
    """Everybody at the relay: who submits, who reads all, and who reads one job after the other."""

    def __init__(self, relay: KilledRelay, upstream: Upstream, client: ClientSession, tasks: asyncio.TaskGroup) -> None:
        self.relay = relay
        self.submitter = Submitter(relay, client)
        self.prompts: dict[str, str] = {}
        breaks = (None, None, 50, 7)
        self.of_all = [Reader(relay, client, "/v1/events", leaves_after=after) for after in breaks]
        self.of_errors = [Reader(relay, client, "/v1/events?level=error", leaves_after=after) for after in (None, 1)]
        self.of_one: dict[str, Reader] = {}
        self.replays: list[asyncio.Task[Replay]] = []
        self._upstream = upstream
        self._client = client
        self._tasks = tasks
        self._to_read: asyncio.Queue[str] = asyncio.Queue()
        self._submissions: set[asyncio.Task[None]] = set()
        self._reading = [tasks.create_task(reader.run()) for reader in (*self.of_all, *self.of_errors)]
        self._reading += [tasks.create_task(self._read_one_by_one(turn)) for turn in range(READERS_OF_ONE)]

    async def one_round(self, number: int, chance: random.Random, *, strikes: bool) -> None:
        """Submit something, and return at a moment that is random in what has been told, not in time.

        With *strikes*, the relay may have been killed by then.
        """
        moment = self._tasks.create_task(self._moment(chance, strikes=strikes))
        await asyncio.sleep(0)  # so that it is waited for before it can come
        if number and chance.random() < 0.5:
            # Who has an answer may ask again, and gets the same.
            self.submit(chance.choice(sorted(self.prompts)))
        for turn in range(chance.randint(1, 3)):
            self.submit(f"key {number}.{turn}", chance.choice(SCENARIOS))
        await moment

    async def _moment(self, chance: random.Random, *, strikes: bool) -> None:
        """When to kill."""
        watcher = self.of_all[0]
        match chance.choice(("taken", "heard", "told", "told", "told")):
            case "taken" if strikes:
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
        turns = 1 + len(self.unended())
        for _ in range(turns):
            told = self._told()
            await asyncio.wait([settling], timeout=PATIENCE)
            if settling.done() or self._told() == told:
                break
        if not settling.done():
            settling.cancel()
            raise AssertionError(f"it does not settle: {'; '.join(self._behind())}")

    def at_the_end(self, rounds: int) -> Crowd:
        """Everybody, for the verdict."""
        return Crowd(
            rounds=rounds,
            submitter=self.submitter,
            prompts=self.prompts,
            of_all=self.of_all,
            of_errors=self.of_errors,
            of_one=self.of_one,
            replays=[replay.result() for replay in self.replays],
            complaints=self.relay.said,
        )

    async def _settle(self) -> None:
        await asyncio.gather(*self._submissions)
        await self._to_read.join()
        head = await self.submitter.position()
        # The newest record of all is the end of a job, so that it comes through every level.
        for reader in (*self.of_all, *self.of_errors):
            await reader.reaches(head)
        for task in self._reading:
            task.cancel()

    def _told(self) -> int:
        """How much all readers have been told so far."""
        return sum(len(reader.story) for reader in (*self.of_all, *self.of_one.values()))

    def unended(self) -> set[str]:
        """The jobs of which the first reader of all was not told the end."""
        ends = {json.loads(block.data)["job"] for block in self.of_all[0].story if block.event in ENDS}
        return set(self.submitter.jobs.values()) - ends

    def _behind(self) -> Iterator[str]:
        """Who waits for what, in words."""
        unended = sorted(self.unended())
        yield f"{len(unended)} jobs have no end ({', '.join(unended[:5]) or 'none'})"
        yield f"{sum(not task.done() for task in self._submissions)} submissions have no answer"
        yield f"{self._to_read.qsize()} jobs wait for a reader"
        furthest = max(reader.offset for reader in self.of_all)
        for reader in (*self.of_all, *self.of_one.values()):
            if not reader.done and (reader.offset < furthest or reader not in self.of_all):
                yield f"{reader.path} is told up to {reader.offset} of {furthest} in {reader.connections} connections"

    def submit(self, key: str, scenario: str | None = None) -> asyncio.Task[None]:
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


def _is_being_submitted(block: Block) -> bool:
    return block.event == "accepted" and json.loads(block.data)["task"] is None
