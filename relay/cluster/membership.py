"""A node among others: it shows that it lives, claims shards, renews its leases, and hands shards over."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Set
from datetime import datetime
from typing import Any, Final, TypeVar

from relay.clock import Clock, rest
from relay.cluster._counts import ClusterCounts
from relay.cluster._rhythm import LOOK_EVERY, POLL_FOR, Rhythm
from relay.cluster._within import within
from relay.cluster.leases import Leases
from relay.cluster.shards import Shards
from relay.errors import JournalError
from relay.journal.shared import Claimed, Fence, Lease, LeaseStore
from relay.notices import Notify, apart, describe, guarded, interrupts, notice

__all__ = ["Membership"]

ANSWER_WITHIN: Final = 1 / 4
"""For how long, in leases, a request to the engine may take: a second renewal still begins before polling stops."""

HAND_OVER_WITHIN: Final = 1.0
"""For how long, in leases, a hand-over may take to settle; the shard is released then in any case."""

T = TypeVar("T")


class Membership:
    """The part of this *node* in the cluster: which shards it owns, and until when it may poll and append for them.

    *lease* is in seconds. Run `run` as a supervised task, and `leave` before it is cancelled. Callbacks run on the
    loop's thread, and one that raises is a notice. *on_owned*: the node owns a shard from now on; all that its previous
    owner has appended is up to the head of the claim. *on_handover*: stop polling the jobs of a shard, and settle what
    waits to be appended; the lease holds meanwhile, and may end before. *on_lost*: the node does not own a shard any
    more, after a hand-over or without one. Each `on_owned` is followed by one `on_lost`, unless the process ends.
    *on_time*: the engine's time of day, with each look at the leases.
    """

    def __init__(
        self,
        store: LeaseStore,
        shards: Shards,
        *,
        node: str,
        lease: float,
        clock: Clock,
        on_owned: Callable[[int, Claimed], object],
        on_lost: Callable[[int], object],
        on_handover: Callable[[int], Coroutine[Any, Any, object]],
        on_time: Callable[[datetime], object] = bool,
        notify: Notify = notice,
    ) -> None:
        self.node: str = node
        self.shards: Shards = shards
        self.counts: ClusterCounts = ClusterCounts()
        self.looked: asyncio.Event = asyncio.Event()
        """Set once this node has looked at the leases, and has claimed what was free for it."""
        self._store = store
        self._lease = lease
        self._clock = clock
        self._on_owned = on_owned
        self._on_lost = on_lost
        self._on_handover = on_handover
        self._on_time = on_time
        self._notify = guarded(notify)
        self._leases = Leases(node, shards.count, lease)
        self._rhythm = Rhythm(lease, clock.monotonic())
        self._to_release: dict[int, int] = {}
        self._releasing = asyncio.Lock()
        self._round = asyncio.Lock()
        self._woken = asyncio.Event()
        self._hand_overs: set[asyncio.Task[None]] = set()
        self._leaving = self._left = False

    @property
    def owned(self) -> frozenset[int]:
        """The shards of this node, without those that it is about to hand over: new jobs may go there."""
        return self._leases.owned

    @property
    def nodes(self) -> Set[str]:
        """The names of the nodes that were alive when this one last looked, and its own."""
        return self._leases.sightings.alive

    @property
    def since_renewal(self) -> float:
        """Seconds since the start of the last successful renewal, or since this node began."""
        return self._rhythm.since_renewal(self._clock.monotonic())

    @property
    def problem(self) -> str | None:
        """Why this node polls nothing at present, in a sentence; None while it may."""
        if self._left:
            return None
        if (others := self._leases.sightings.other_layouts) and not self.owned:
            return (
                f"other nodes divide the jobs into {others[0]} shards, and this one into {self.shards.count}, so it "
                "claims none: set [cluster] shards to the same number, or stop the other nodes"
            )
        if self.since_renewal < POLL_FOR * self._lease:
            return None
        return (
            f"the leases of this node were not renewed for {self.since_renewal:.1f} s, so it polls nothing: "
            "look at the engine that [journal] url names, and at the way to it"
        )

    def fence(self, job: str, upstream: str) -> Fence | None:
        """The right to append for *job*, which is on *upstream*, and to poll it.

        None if another node owns its shard, or if the last renewal began two thirds of a lease ago.
        """
        return self._leases.fence(self.shards.of(job, upstream), self._clock.monotonic())

    def fence_of_another(self, shard: int) -> Fence | None:
        """What other nodes append by for *shard*, as this one last saw it; None where nobody ever claimed it."""
        return self._leases.fence_of_another(shard)

    def owner_of(self, shard: int) -> str:
        """The node that owns *shard* as this one last saw it, alive or not; "" if none does."""
        return self._leases.owner_of(shard)

    def lost(self, shard: int) -> None:
        """The engine has refused an append for *shard* because of its fence: let go of it at once."""
        if self._let_go(shard):
            self.counts.fences += 1
            self.wake()

    def wake(self) -> None:
        """Look at the leases at once, since something has changed there."""
        self._rhythm.look_soon()
        self._woken.set()

    async def run(self) -> None:
        """Take part until `leave`, or until this is cancelled. No failure of the engine ends it.

        After another failure it may be called again: hand-overs that are under way have gone on.
        """
        try:
            while not self._left:
                self._woken.clear()
                async with self._round:
                    await self._act()
                due_in = self._rhythm.due_at - self._clock.monotonic()
                await rest(self._clock, max(0.0, due_in), self._woken)
        except asyncio.CancelledError:
            for task in self._hand_overs:
                task.cancel()
            raise

    async def leave(self) -> None:
        """Hand over all shards at once, claim no other, and leave the cluster.

        It takes a lease at most for the hand-overs, and as long for the engine; leases that remain end by themselves.
        """
        self._leaving = True
        async with self._round:  # or a claim that is under way would bring one more shard
            for shard in sorted(self.owned):
                self._start_hand_over(shard)
        if self._hand_overs:
            await asyncio.wait(set(self._hand_overs))
        layout = self._leases.held.get(self._leases.layout)
        if layout is not None and self._leases.let_go(self._leases.layout):
            self._to_release[self._leases.layout] = layout
            await self._release()
        end = self._clock.monotonic() + self._lease
        while self._to_release and self._clock.monotonic() < end:
            await self._clock.sleep(LOOK_EVERY * self._lease)
            await self._release()
        self._left = True
        self._woken.set()
        async with self._round:  # or a renewal that is under way would bring the node back
            await self._asked(self._store.leave())

    async def _act(self) -> None:
        await self._renew_if_due()
        if self._to_release:
            await self._release()
        if self._left or not self._rhythm.look_is_due(self._clock.monotonic()):
            return
        if await self._look() and not self._leaving:
            await self._claim_and_give()

    async def _claim_and_give(self) -> None:
        expired: dict[str, list[float]] = {}
        for shard, seen in self._leases.to_claim():
            silence = self._leases.sightings.silence(shard, self._clock.monotonic())
            if self._leaving or not await self._claim(shard, seen):
                continue
            if seen is not None and seen.owner not in ("", self.node) and shard != self._leases.layout:
                expired.setdefault(seen.owner, []).append(silence)
            await self._renew_if_due()
        for owner, silences in expired.items():
            self.counts.took_over(silences)
            self._notify(
                f"node {self.node} took over {len(silences)} shards of {owner}, "
                f"{max(silences):.1f} s after the last renewal that it saw"
            )
        self._to_release.update(self._leases.to_release())
        if self._leases.agreed or self._leases.sightings.other_layouts:
            self.looked.set()
        if not self._leaving:
            for shard in self._leases.to_hand_over():
                self._start_hand_over(shard)

    async def _renew_if_due(self) -> None:
        asked = self._clock.monotonic()
        if self._left or not self._rhythm.renewal_is_due(asked):
            return
        held = self._leases.held
        lost = await self._asked(self._store.beat(held))
        if lost is None:
            return self._rhythm.renewal_failed()
        self._rhythm.renewed(asked)
        self._leases.renewed({shard: token for shard, token in held.items() if shard not in lost}, asked)
        if lost:
            self._lose({shard: held[shard] for shard in lost})
            self._rhythm.look_soon()

    async def _look(self) -> bool:
        asked = self._clock.monotonic()
        self._rhythm.looks(asked)
        held = self._leases.held
        view = await self._asked(self._store.view())
        if view is None:
            return False
        self._rhythm.looked()
        if view.time is not None:
            self._on_time(view.time)
        gone = self._leases.look(view, asked, self._clock.monotonic())
        if self._leases.sightings.rewound:
            self._rhythm.renew_soon()  # the others do not see this node any more
        self._lose({shard: held[shard] for shard in gone if shard in held})
        return True

    async def _claim(self, shard: int, seen: Lease | None) -> bool:
        asked = self._clock.monotonic()
        claimed = await self._asked(self._store.claim(shard, seen))
        if claimed is None:
            return False
        self._leases.claimed(shard, claimed, seen, asked)
        if shard == self._leases.layout:
            self._rhythm.look_soon()  # to claim the rest, unless another node has another layout
            return True
        self.counts.claims += 1
        apart(lambda: self._on_owned(shard, claimed), f"taking up shard {shard}", self._notify)
        return True

    def _lose(self, lost: Mapping[int, int]) -> None:
        """Let go of the shards in *lost* that are still held with the tokens there."""
        held = self._leases.held
        gone = [shard for shard, token in sorted(lost.items()) if held.get(shard) == token and self._let_go(shard)]
        if gone:
            self._notify(f"node {self.node} lost the leases of {len(gone)} shards: another node has them, or nobody")

    def _let_go(self, shard: int) -> bool:
        if not self._leases.let_go(shard) or shard == self._leases.layout:
            return False
        self.counts.losses += 1
        apart(lambda: self._on_lost(shard), f"letting go of shard {shard}", self._notify)
        return True

    def _start_hand_over(self, shard: int) -> None:
        self._leases.hand_over(shard)
        task = asyncio.create_task(self._hand_over(shard), name=f"hand-over of shard {shard}")
        self._hand_overs.add(task)
        task.add_done_callback(self._hand_overs.discard)

    async def _hand_over(self, shard: int) -> None:
        try:
            await within(self._clock, HAND_OVER_WITHIN * self._lease, self._on_handover(shard))
        except BaseException as error:
            if interrupts(error, asyncio.current_task()):
                raise
            self._notify(f"shard {shard} was handed over before it had settled: {describe(error)}")
        if (token := self._leases.handed_over(shard)) is not None:
            self.counts.hand_overs += 1
            apart(lambda: self._on_lost(shard), f"letting go of shard {shard}", self._notify)
            self._to_release[shard] = token
            await self._release()

    async def _release(self) -> None:
        """Release what waits for it, in one request; later ones meanwhile share the next."""
        async with self._releasing:
            if batch := self._to_release:
                self._to_release = {}
                if await self._asked(_true(self._store.release(batch))) is None:
                    self._to_release = batch | self._to_release

    async def _asked(self, request: Coroutine[Any, Any, T]) -> T | None:
        """The answer of the engine; None if the outcome of *request* is unknown. The journal reports why."""
        try:
            return await within(self._clock, ANSWER_WITHIN * self._lease, request)
        except (JournalError, TimeoutError):
            self.counts.unanswered += 1
            return None


async def _true(request: Awaitable[object]) -> bool:
    await request
    return True
