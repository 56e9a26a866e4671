"""Nodes of one process that take part in a cluster, each with a clock of its own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from relay.cluster import Membership, Shards
from relay.journal.shared import Claimed, Fence, LeaseStore
from relay.testing import ManualClock

__all__ = ["LEASE", "Member", "advance"]

LEASE = 10.0
STEP = LEASE / 100


class Member:
    """One node: its membership, and all that it was called back with, in order."""

    def __init__(self, store: LeaseStore, name: str, *, shards: int = 8, lease: float = LEASE) -> None:
        self.clock: ManualClock = ManualClock()
        self.notices: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.settled: asyncio.Event = asyncio.Event()
        """A hand-over waits for it."""
        self.settled.set()
        self.membership: Membership = Membership(
            store,
            Shards(shards),
            node=name,
            lease=lease,
            clock=self.clock,
            on_owned=self._own,
            on_lost=self._lose,
            on_handover=self._hand_over,
            notify=self.notices.append,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def owned(self) -> set[int]:
        return set(self.membership.owned)

    @property
    def fences(self) -> dict[int, Fence]:
        """The fences that hold now, by shard."""
        leases = self.membership._leases
        now = self.clock.monotonic()
        return {shard: fence for shard in range(self.membership.shards.count) if (fence := leases.fence(shard, now))}

    def start(self) -> "Member":
        self._task = asyncio.create_task(self.membership.run())
        return self

    async def stop(self) -> None:
        """End as a process does that is killed: nothing is handed over."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _own(self, shard: int, claimed: Claimed) -> None:
        self.calls.append(("owned", shard))

    def _lose(self, shard: int) -> None:
        self.calls.append(("lost", shard))

    async def _hand_over(self, shard: int) -> None:
        self.calls.append(("handover", shard))
        await self.settled.wait()


async def advance(seconds: float, *members: Member, until: Callable[[], bool] | None = None) -> float:
    """Let *seconds* pass for all *members* alike, or less, as soon as *until* is true; return how many have passed."""
    steps = round(seconds / STEP)
    for step in range(steps):
        if until is not None and until():
            return step * STEP
        for member in members:
            await member.clock.advance(STEP)
    if until is not None:
        assert until(), f"not within {seconds:g} s"
    return steps * STEP
