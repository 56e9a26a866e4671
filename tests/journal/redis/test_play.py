"""Three nodes and an engine to which anything happens, in an order that a seed decides: what every node may rely on."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from relay.errors import JournalError
from relay.journal.shared import Entry, Fence
from tests.journal.redis.nodes import Node, Story, joined, running
from tests.journal.redis.servers import ENGINES, EngineServer, running_engine

ACTIONS = (
    "append",
    "append",
    "append",
    "append",
    "pause",
    "cut",
    "flush",
    "trim",
    "delete",
    "restart",
    "spoil",
    "script",
)


@pytest.fixture(params=ENGINES)
def lasting(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    with running_engine(request.param, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


class Player:
    """A node of the play. Its tail can be paused; all that it receives is noted with the epoch of that moment."""

    def __init__(self, node: Node, number: int) -> None:
        self.node: Node = node
        self.number = number
        self.seen: list[tuple[str, int, bytes] | None] = []
        self.stories = 0
        self._story: Story | None = None
        self._tail: AsyncExitStack | None = None
        receive, begin_anew = node.receive, node.begin_anew

        def noted(entries: Sequence[Entry]) -> None:
            for entry in entries:
                if entry.record is not None:
                    self.seen.append((node.journal.epoch, entry.offset, entry.record.json))
            receive(entries)

        def broken() -> None:
            self.seen.append(None)
            begin_anew()

        node.receive, node.begin_anew = noted, broken  # type: ignore[method-assign]

    async def resume(self) -> None:
        if self._tail is None:
            self._tail = AsyncExitStack()
            await self._tail.enter_async_context(running(self.node))

    async def pause(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            await tail.aclose()

    def is_beyond(self, job: str, epoch: str) -> bool:
        """Whether the node has read the record of *job*, or has left the *epoch* of it."""
        return bool(self.node.seqs(job)) or self.node.journal.epoch != epoch

    async def append(self) -> None:
        """Append a few records of a job of its own; what an engine refuses is the end of that job's story."""
        if self._story is None:
            self.stories += 1
            self._story = Story(f"job-{self.number}-{self.stories}", await self.own())
        self.node.number += 1
        drafts = self._story.take(3)
        for _ in range(200):
            try:
                refused = await self.node.journal.append(self.node.number, drafts)
                break
            except JournalError:
                await self.resume()  # the tail brings a node into a new epoch
                await asyncio.sleep(0.05)
        else:
            raise AssertionError(self.node.journal.problem)
        if any(refused):
            self._story = None

    async def own(self) -> Fence:
        while True:
            try:
                leases = self.node.journal.leases
                claimed = await leases.claim(self.number, (await leases.view()).leases.get(self.number))
                if claimed is not None:
                    return Fence(self.number, claimed.token)
            except JournalError:
                pass
            await self.resume()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", [2, 4])
async def test_whatever_happens_to_the_engine_every_node_reads_a_run_of_one_story_or_a_break(
    lasting: EngineServer, seed: int
) -> None:
    turns = random.Random(seed)
    async with played(lasting) as players:
        for _ in range(60):
            player, action = turns.choice(players), turns.choice(ACTIONS)
            epoch = player.node.journal.epoch
            match action:
                case "append":
                    await player.append()
                case "pause":
                    await player.pause()
                case "cut":
                    await lasting.call("CLIENT", "KILL", "TYPE", "normal")
                case "flush":
                    await lasting.call("FLUSHALL")
                case "trim":
                    await lasting.call("XTRIM", f"{{relay}}:s:{epoch}", "MAXLEN", 2)
                case "delete":
                    await lasting.call("DEL", f"{{relay}}:s:{epoch}")
                case "restart":
                    lasting.restart()
                case "spoil":
                    await lasting.call("XADD", f"{{relay}}:s:{epoch}", "*", "theirs", "1")
                case "script":
                    await lasting.call("SCRIPT", "FLUSH")
        for player in players:
            await player.resume()
        await everybody_reads_the_same(players)
        assert len({player.node.journal.epoch for player in players}) == 1
        assert len({player.node.journal.head for player in players}) == 1
    known: dict[tuple[str, int], bytes] = {}
    for player in players:
        before, unbroken = 0, True
        for position in player.seen:
            if position is None:
                unbroken = False
                continue
            epoch, offset, body = position
            assert offset == before + 1 if unbroken else offset > before, "a hole without a break, or an offset again"
            assert known.setdefault((epoch, offset), body) == body, "another record at the same position"
            before, unbroken = offset, True


async def everybody_reads_the_same(players: list[Player]) -> None:
    """Append last records until one reaches all: a node that was away may have to begin another epoch before."""
    first = players[0]
    for turn in range(1_000):
        if any(await first.node.append(Story(f"last-{turn}", await first.own()).next())):
            continue  # an epoch that has just begun ended the lease
        for player in players:
            await player.node.until(partial(player.is_beyond, f"last-{turn}", first.node.journal.epoch))
        if all(player.node.seqs(f"last-{turn}") for player in players):
            return


@asynccontextmanager
async def played(server: EngineServer) -> AsyncIterator[list[Player]]:
    async with AsyncExitStack() as stack:
        players = []
        for number in range(3):
            node = await stack.enter_async_context(joined(server.url, f"n{number}", run=False))
            player = Player(node, number)
            stack.push_async_callback(player.pause)
            await player.resume()
            players.append(player)
        yield players
