"""One chapter of a soak: a cluster is born, struck by faults while clients read and submit, settles and is judged."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct
from msgspec.structs import replace

from relay.clock import SystemClock
from relay.cluster.shards import Shards
from relay.events import Accepted
from tests.faults.cluster.checker import check, takeovers
from tests.faults.cluster.crowd import Caller, Known, Reader
from tests.faults.cluster.double import Double, upstreams_toml
from tests.faults.cluster.engine import Engine
from tests.faults.cluster.history import Account, History
from tests.faults.cluster.nodes import Forker, Node
from tests.faults.cluster.observing import Observer
from tests.faults.cluster.outcome import Outcome
from tests.faults.cluster.proxy import Proxy
from tests.faults.cluster.striking import KINDS, Kind, Place, Striker
from tests.journal.redis.servers import Kind as EngineKind

__all__ = ["Plan", "run_chapter"]

CONFIG: Final = """
[journal]
url = "redis://127.0.0.1:{port}"
keep = {{ records = {keep}, bytes = 1_000_000_000, age = "30d" }}

[cluster]
lease = {lease}
shards = {shards}
node = "{slot}"

[server]
max_streams_per_client = 0
max_jobs_per_client = 0
new_jobs_per_minute = 100_000

{upstreams}
"""

LISTS: Final = ("list-a", "list-b", "list-c")
ITEMS: Final = ("item-a", "item-b")

PATIENCE: Final = 60.0
"""Seconds in which nothing at all goes on before a chapter is given up: a safety net, and no part of any figure."""

GONE_AFTER: Final = 10.0
"""Such seconds after which callers give up jobs that no node knows, where the engine has lost data."""

LARGE: Final = 1_000_000
"""More records than a chapter has."""

Loss = Literal["flush", "restore"]
"""The engine is emptied, or started with older data: the two ways to lose what it has acknowledged."""


class Plan(Struct, frozen=True, kw_only=True):
    """What a chapter consists of. Times are in seconds; *jobs* run at a time, *losses* come evenly between faults.

    *keep* is how many records the journal keeps.
    """

    seed: int
    faults: int
    nodes: int = 3
    engine: EngineKind = "redis"
    jobs: int = 200
    readers: int = 30
    lease: float = 0.6
    shards: int = 16
    lasts: tuple[float, float] = (4.0, 20.0)
    list_every: float = 1.0
    item_every: float = 3.0
    longest_stop: float = 5.0
    kinds: Sequence[Kind] = KINDS
    losses: Sequence[Loss] = ()
    keep: int = LARGE
    mutants: tuple[str, ...] = ()


async def run_chapter(folder: Path, plan: Plan) -> Outcome:
    """Run one chapter in *folder*, which is empty."""
    async with AsyncExitStack() as stack:
        engine = Engine(plan.engine)
        stack.callback(engine.close)
        await asyncio.to_thread(engine.start)
        double = await stack.enter_async_context(Double(LISTS, ITEMS, plan.seed, lasts=plan.lasts))
        forker = await stack.enter_async_context(Forker())
        places: list[Place] = []
        for number in range(plan.nodes):
            slot = f"n{number + 1}"
            proxy = await stack.enter_async_context(Proxy("127.0.0.1", engine.port))
            upstreams = upstreams_toml(double, slot, list_every=plan.list_every, item_every=plan.item_every)
            config = CONFIG.format(
                port=proxy.port, keep=plan.keep, lease=plan.lease, shards=plan.shards, slot=slot, upstreams=upstreams
            )
            node = Node(forker, folder, slot, config, mutants=plan.mutants)
            stack.push_async_callback(node.kill)
            places.append(Place(node, proxy))
        client = await stack.enter_async_context(
            ClientSession(connector=TCPConnector(limit=0, force_close=True), timeout=ClientTimeout(total=None))
        )
        observer = Observer(engine.url)
        stack.push_async_callback(observer.close)
        chapter = _Chapter(plan, engine, double, places, client, observer)
        await chapter.run()
        return chapter.judge()


class _Chapter:
    """All that takes part."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        double: Double,
        places: Sequence[Place],
        client: ClientSession,
        observer: Observer,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._double = double
        self._places = places
        self._observer = observer
        self._chance = random.Random(plan.seed)
        self._known = Known()
        addresses = [place.node.address for place in places]
        self._caller = Caller(client, addresses, random.Random(f"{plan.seed} caller"))
        self._jobs: list[str] = []
        self._gone: list[str] = []
        self._fresh: asyncio.Queue[str] = asyncio.Queue()
        self._readers = [self._reader(number, client, addresses) for number in range(plan.readers)]
        self._striker = Striker(
            places, engine, random.Random(f"{plan.seed} faults"), lease=plan.lease, longest=plan.longest_stop
        )
        self._calling = True

    async def run(self) -> None:
        """The chapter, until all has settled and the nodes have left."""
        await asyncio.gather(*(place.node.start() for place in self._places))
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(reader.run()) for reader in self._readers]
            watching = tasks.create_task(self._observer.run())
            calling = [tasks.create_task(self._call(turn)) for turn in range(self._plan.jobs)]
            await self._strike()
            self._calling = False
            await asyncio.gather(*(place.node.start() for place in self._places if not place.node.runs))
            await self._settle(calling)
            for task in (*reading, watching):
                task.cancel()
        for place in self._places:
            await place.node.leave()
        await self._observer.read_states()

    async def _strike(self) -> None:
        """All faults, and the losses between them."""
        losses = list(self._plan.losses)
        parts = len(losses) + 1
        struck = 0
        self._engine.save()
        while struck < self._plan.faults or losses:
            struck += await self._striker.strike(self._plan.kinds)
            if losses and struck * parts >= self._plan.faults * (parts - len(losses)):
                await self._lose(losses.pop(0))

    async def _lose(self, loss: Loss) -> None:
        """Let the engine lose what it has, once the observer has it."""
        if loss == "flush":
            await self._observer.flush()
            return
        for place in self._places:
            await place.proxy.refuse()
        await self._observer.look()
        await asyncio.to_thread(self._engine.restore)
        for place in self._places:
            await place.proxy.accept()

    def judge(self) -> Outcome:
        """What it has shown."""
        history = self._history()
        stories = [story for reader in self._readers for story in reader.stories]
        blocks = [block for story in stories for connection in story.connections for block in connection.blocks]
        return Outcome(
            violations=check(history),
            takeovers=takeovers(history),
            faults=Counter(note.kind for note in history.faults if note.kind != "engine-back"),
            jobs=len(self._jobs),
            records=self._observer.records,
            deliveries=sum(block.is_record for block in blocks),
            connections=sum(len(story.connections) for story in stories),
            gaps=sum(block.event == "gap" for block in blocks),
            epochs=len(history.epochs),
            claims=len(history.claims),
            unanswered=sum(call.unanswered for call in history.calls),
            unknown=sum(call.outcome == "unknown" for call in history.calls),
            refused=sum(bool(draft.refusal) for call in history.calls for draft in call.drafts),
            repeated=self._caller.repeated,
            put_off=self._caller.put_off,
            complaints=[line for place in self._places for line in place.node.complaints],
        )

    def _reader(self, number: int, client: ClientSession, addresses: Sequence[str]) -> Reader:
        """Two thirds read all, half of them without polls; the others read one job after the other."""
        return Reader(
            f"reader {number}",
            client,
            addresses,
            self._known,
            random.Random(f"{self._plan.seed} {number}"),
            level="info" if number % 3 == 1 else "debug",
            jobs=self._job_to_read if number % 3 == 2 else None,
        )

    def _job_to_read(self) -> str | None:
        return self._chance.choice(self._jobs[-self._plan.jobs :]) if self._jobs and self._calling else None

    async def _call(self, turn: int) -> None:
        """Have one job after the other, submitted or followed, now and then twice at the same time."""
        chance = random.Random(f"{self._plan.seed} {turn}")
        number = 0
        await SystemClock().sleep(chance.random() * self._plan.lasts[0])
        while self._calling:
            number += 1
            account = chance.choice((*LISTS, *ITEMS))
            key = f"key {turn}.{number}"
            twice = 2 if chance.random() < 0.2 else 1
            if chance.random() < 0.3:
                task = self._double.create(account, key)
                answers = [self._caller.follow(task, account) for _ in range(twice)]
            else:
                answers = [self._caller.submit(key, account) for _ in range(twice)]
            (job, *_) = await asyncio.gather(*answers)
            self._jobs.append(job)
            while job not in self._known.ended:
                await SystemClock().sleep(0.2)

    async def _settle(self, calling: Sequence[asyncio.Task[None]]) -> None:
        """Wait until every job has ended and every reader of all has every record."""
        for reader in self._readers:
            reader.stay = True
        seen, quiet = "", 0.0
        while (behind := self._behind(calling)) != "":
            quiet, seen = (quiet + 0.5, seen) if seen == behind else (0.0, behind)
            if quiet > GONE_AFTER and self._plan.losses:
                self._gone += (gone := await self._caller.nowhere(self._unended()))
                self._known.ended.update(gone)
            if quiet > PATIENCE:
                words = [line for place in self._places for line in place.node.complaints[-10:]]
                words += [await self._caller.seen(job) for job in self._unended()[:3]]
                raise AssertionError("\n".join([f"it does not settle: {behind}", *words]))
            await SystemClock().sleep(0.5)

    def _behind(self, calling: Sequence[asyncio.Task[None]]) -> str:
        """The words for all that is still to come; "" for nothing."""
        waiting = sum(not task.done() for task in calling)
        unended = self._unended()
        entries = self._observer.epochs[-1].entries if self._observer.epochs else []
        head = entries[-1].offset if entries else 0  # a new epoch has nothing in it for a moment
        behind = [reader.offset for reader in self._readers if reader.follows_all and reader.offset < head]
        if not (waiting or unended or behind):
            return ""
        return f"{waiting} calls wait, {len(unended)} jobs have no end {unended[:3]}, head {head}, readers {behind}"

    def _unended(self) -> Sequence[str]:
        return sorted(set(self._jobs) - self._known.ended)

    def _history(self) -> History:
        epochs = self._observer.epochs
        shards = Shards(self._plan.shards, LISTS)
        upstreams: dict[str, str] = {}
        accounts = {account: Account(shards.of("", account), self._plan.list_every) for account in LISTS}
        for record in (entry.record for epoch in epochs for entry in epoch.entries):
            if record is not None and isinstance(record.event, Accepted):
                upstreams[record.job] = record.event.upstream
        return History(
            epochs=[replace(epoch, tidied=self._plan.keep < LARGE) for epoch in epochs],
            claims=self._observer.claims,
            shards={job: shards.of(job, upstream) for job, upstream in upstreams.items()},
            accounts=accounts,
            lease=self._plan.lease,
            calls=[call for place in self._places for call in place.node.calls()],
            stories=[story for reader in self._readers for story in reader.stories],
            requests=self._double.requests,
            answers=self._caller.answers,
            tasks=self._double.tasks,
            faults=self._striker.notes,
            most_epochs=1 + len(self._plan.losses),
            gone=self._gone,
        )
