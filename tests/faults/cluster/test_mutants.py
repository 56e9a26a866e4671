"""A relay without one part of its protection is found out by the checker; with all of them, the same faults are none.

Each mutant meets the fault that its part protects from: bytes that are held on their way to a real engine.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from relay.errors import JournalError
from relay.events import Accepted, Event, Position, Progress
from relay.jobs.state import JobState, evolve
from relay.journal import StoredJob
from relay.journal.redis import RedisJournal
from relay.journal.shared import Draft, Fence, Refusal
from relay.wire.record_json import stamp
from tests.faults.cluster import history
from tests.faults.cluster.checker import check
from tests.faults.cluster.engine import Engine
from tests.faults.cluster.history import Call, History
from tests.faults.cluster.mutants import mutated
from tests.faults.cluster.observing import Observer
from tests.faults.cluster.proxy import Proxy

pytestmark = [pytest.mark.server, pytest.mark.redis]

SHARD = 3


class Cluster(NamedTuple):
    """Two nodes, the first of them behind a proxy, and what they have called."""

    proxy: Proxy
    one: RedisJournal
    other: RedisJournal
    observer: Observer
    calls: list[Call]

    async def violations(self) -> set[str]:
        """The invariants that do not hold."""
        await self.observer.read_states()
        return {violation.invariant for violation in check(self.history())}

    def history(self) -> History:
        observer = self.observer
        return History(
            epochs=observer.epochs,
            claims=observer.claims,
            shards={"j": SHARD},
            accounts={},
            lease=1.0,
            calls=self.calls,
        )

    def note(self, node: RedisJournal, number: int, drafts: Sequence[Draft], found: Sequence[Refusal | None]) -> None:
        words = ["" if refusal is None else refusal.reason for refusal in found]
        noted = [history.Draft("j", draft.seq, draft.body, word) for draft, word in zip(drafts, words, strict=True)]
        self.calls.append(Call(node=node.node, number=number, epoch=node.epoch, drafts=noted, outcome="answered"))


@asynccontextmanager
async def cluster(mutants: Sequence[str]) -> AsyncIterator[Cluster]:
    engine = Engine()
    await asyncio.to_thread(engine.start)
    try:
        async with Proxy("127.0.0.1", engine.port) as proxy:
            with mutated(mutants):
                one, other = RedisJournal(f"redis://127.0.0.1:{proxy.port}"), RedisJournal(engine.url)
            observer = Observer(engine.url)
            await one.open()
            await other.open()
            try:
                yield Cluster(proxy, one, other, observer, [])
            finally:
                await one.close()
                await other.close()
                await observer.close()
    finally:
        engine.close()


def drafts(fence: Fence, *events: Event, after: int = 0) -> list[Draft]:
    """The records of the job from seq 1 on, of which the first *after* are left out."""
    state, found = JobState(), list[Draft]()
    for seq, event in enumerate(events, 1):
        record = stamp("j", seq, datetime(2026, 1, 1, tzinfo=UTC), event, Position("", 0))
        state = replace(evolve(state, record), offset=0)
        stored = StoredJob(id="j", state=state)
        found.append(Draft(seq=seq, body=record.json, fence=fence, stored=stored))
    return found[after:]


ACCEPTED, PROGRESS = Accepted(upstream="one", task="t"), Progress(percent=9, status="running")


async def a_repeated_batch(nodes: Cluster) -> None:
    """The reply to an append is lost with its link, and the node sends the batch again."""
    claimed = await nodes.one.leases.claim(SHARD, None)
    assert claimed is not None
    first, second = drafts(Fence(SHARD, claimed.token), ACCEPTED, PROGRESS)
    # The engine has the script from here on, so that the next append is one request.
    nodes.note(nodes.one, 1, [first], await nodes.one.append(1, [first]))
    nodes.proxy.replies.clear()
    append = asyncio.create_task(nodes.one.append(2, [second]))
    await nodes.proxy.waits()
    nodes.proxy.reset()
    with pytest.raises(JournalError):
        await append
    nodes.proxy.release()
    nodes.note(nodes.one, 2, [second], await nodes.one.append(2, [second]))


async def a_late_append(nodes: Cluster) -> None:
    """An append is held on its way for so long that another node has claimed the shard."""
    claimed = await nodes.one.leases.claim(SHARD, None)
    assert claimed is not None
    first, second = drafts(Fence(SHARD, claimed.token), ACCEPTED, PROGRESS)
    nodes.note(nodes.one, 1, [first], await nodes.one.append(1, [first]))
    nodes.proxy.requests.clear()
    append = asyncio.create_task(nodes.one.append(2, [second]))
    await nodes.proxy.waits()
    assert await nodes.other.leases.claim(SHARD, (await nodes.other.leases.view()).leases[SHARD]) is not None
    nodes.proxy.release()
    nodes.note(nodes.one, 2, [second], await append)


async def a_hole(nodes: Cluster) -> None:
    """A node appends a record of a job whose record before is not there."""
    claimed = await nodes.one.leases.claim(SHARD, None)
    assert claimed is not None
    batch = drafts(Fence(SHARD, claimed.token), ACCEPTED, PROGRESS, PROGRESS)[::2]
    nodes.note(nodes.one, 1, batch, await nodes.one.append(1, batch))


@pytest.mark.parametrize(
    ("mutants", "fault", "violations"),
    [
        ((), a_repeated_batch, set()),
        ((), a_late_append, set()),
        ((), a_hole, set()),
        (("no-batch-memory",), a_repeated_batch, {"refused"}),
        (("no-batch-memory", "no-seq"), a_repeated_batch, {"once", "seq", "state"}),
        (("no-fence",), a_late_append, {"fence"}),
        (("no-seq",), a_hole, {"seq", "state"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "+".join(sorted(value)) or "none",
)
async def test_what_a_mutant_does_is_a_violation(
    mutants: tuple[str, ...], fault: Callable[[Cluster], Awaitable[None]], violations: set[str]
) -> None:
    async with cluster(mutants) as nodes:
        await fault(nodes)

        assert await nodes.violations() == violations
