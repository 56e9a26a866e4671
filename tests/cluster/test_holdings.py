"""What a node carries over and takes up, on its own: an engine, a bus and a membership that do what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from msgspec.structs import replace

from relay.cluster.holdings import LOOKS, PORTION, Holdings
from relay.cluster.shards import Shards
from relay.errors import JournalError
from relay.events import Done
from relay.jobs.state import Job, JobState
from relay.journal.base import StoredJob
from relay.journal.shared import Claimed, Fence
from relay.testing import ManualClock

LEASE = 10.0
LOOK = LEASE / LOOKS


def nothing() -> None:
    pass


class Surroundings:
    """All that `Holdings` uses, and what it does with it."""

    def __init__(self, shards: int = 1) -> None:
        self.clock = ManualClock()
        self.shards = Shards(shards)
        self.problem: str | None = None
        self.owned: frozenset[int] = frozenset()
        self.of_others: dict[int, Fence] = {}
        self.epoch = "before"
        self.head = 0
        self.jobs: list[Job] = []
        self.carried: list[tuple[float, Fence, list[str]]] = []
        self.failing = 0
        self.on_carry_over: Callable[[], object] = nothing
        self.on_take_up: Callable[[], object] = nothing
        self.taken_up: list[str] = []
        self.let_go: list[str] = []
        self._known: set[str] = set()
        self._listener: Callable[[], object] = nothing
        stand_in = cast(Any, self)
        self.holdings = Holdings(
            stand_in,
            stand_in,
            stand_in,
            stand_in,
            self.clock,
            print,
            lease=LEASE,
            take_up=self._take_up,
            let_go=lambda job: self.let_go.append(job.id),
            busy=lambda _: None,
        )
        self.holdings.begin()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.holdings.run())
        await self.clock.advance(0.0)
        try:
            yield
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def has(self, *names: str, ended: bool = False) -> list[Job]:
        """Jobs that were read in the epoch before."""
        jobs = [Job(name) for name in names]
        for job in jobs:
            job.state = replace(JobState(), seq=3, offset=5, upstream="u", terminal=Done() if ended else None)
        self.jobs += jobs
        return jobs

    def lose_everything(self) -> None:
        self.epoch, self.head = f"behind {self.epoch}", self.head + 1_000
        self._known.clear()
        self._listener()

    # The journal.

    def states(self, job: str) -> bool:
        return job in self._known

    async def carry_over(self, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
        self.carried.append((self.clock.monotonic(), fence, [job.id for job in jobs]))
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise JournalError("the engine cannot be reached")
        self._known |= {job.id for job in jobs}
        self.on_carry_over()
        return True

    # The jobs, and the bus.

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def key_of(self, _: Job) -> tuple[str | None, bytes]:
        return None, b""

    def pending(self, job: Job) -> JobState:
        return job.state

    def withdraw(self, _: Job) -> None:
        pass

    def when_begun_anew(self, listener: Callable[[], object]) -> None:
        self._listener = listener

    # The membership.

    def fence(self, job: str, upstream: str) -> Fence:
        return Fence(self.shards.of(job, upstream), 1)

    def fence_of_another(self, shard: int) -> Fence | None:
        return self.of_others.get(shard)

    def _take_up(self, job: Job) -> None:
        self.taken_up.append(job.id)
        self.on_take_up()


async def test_the_owner_of_a_shard_has_a_lease_with_one_token_before_others_carry_its_jobs_over() -> None:
    house = Surroundings()
    house.has("a")
    house.of_others[0] = Fence(0, 7)
    async with house.running():
        await house.clock.advance(0.95 * LEASE)
        house.lose_everything()
        lost_at = house.clock.monotonic()
        await house.clock.advance(LEASE)
        assert house.carried == []
        house.of_others[0] = Fence(0, 8)
        claimed_at = house.clock.monotonic()
        await house.clock.advance(3 * LEASE)

    [(at, fence, jobs)] = house.carried
    assert (fence, jobs) == (Fence(0, 8), ["a"])
    assert lost_at + LEASE <= claimed_at + LEASE <= at <= claimed_at + 2 * LEASE + LOOK


async def test_what_was_seen_of_leases_in_another_epoch_is_no_time_for_their_owners() -> None:
    house = Surroundings()
    [job] = house.has("a")
    house.of_others[0] = Fence(0, 7)
    house.lose_everything()
    job.state = JobState()  # nothing to carry over so far
    async with house.running():
        await house.clock.advance(2.5 * LEASE)
        house.lose_everything()
        job.state = replace(JobState(), seq=3, offset=5, upstream="u")
        lost_at = house.clock.monotonic()
        await house.clock.advance(3 * LEASE)

    [(at, _, _)] = house.carried
    assert at >= lost_at + LEASE


async def test_an_engine_that_fails_meanwhile_is_asked_again_within_a_lease() -> None:
    house = Surroundings()
    house.has(*(f"job-{number}" for number in range(2 * PORTION + 50)))
    house.of_others[0] = Fence(0, 7)
    house.failing = 1
    async with house.running():
        house.lose_everything()
        await house.clock.advance(4 * LEASE)

    (failed_at, _, first), *rest = house.carried
    assert [len(jobs) for _, _, jobs in rest] == [PORTION, PORTION, 50]
    assert {at for at, _, _ in rest} == {rest[0][0]}
    assert rest[0][0] - failed_at <= LEASE + LOOK
    assert first == rest[0][2]
    assert sorted(job for _, _, jobs in rest for job in jobs) == sorted(job.id for job in house.jobs)


async def test_jobs_that_run_are_carried_over_before_those_that_had_ended() -> None:
    house = Surroundings()
    for number in range(PORTION):
        house.has(f"ended-{number}", ended=True)
        house.has(f"running-{number}")
    house.of_others[0] = Fence(0, 7)
    async with house.running():
        house.lose_everything()
        await house.clock.advance(3 * LEASE)

    kinds = [{job.split("-")[0] for job in jobs} for _, _, jobs in house.carried]
    assert kinds == [{"running"}, {"ended"}]


async def test_a_job_that_is_to_be_polled_again_is_also_if_the_engine_fails_at_first() -> None:
    house = Surroundings()
    [job] = house.has("a")
    async with house.running():
        house.holdings.claimed(0, Claimed(1, 0))
        await house.clock.advance(LOOK)
        assert house.taken_up == ["a"]
        house.lose_everything()
        house.failing = 2
        house.holdings.take_up_soon(job)
        await house.clock.advance(4 * LOOK)

    assert house.taken_up == ["a", "a"]


async def test_a_shard_that_is_lost_while_its_jobs_are_carried_over_is_not_taken() -> None:
    house = Surroundings()
    house.has("a")
    house.lose_everything()
    house.on_carry_over = lambda: house.holdings.lost(0)
    async with house.running():
        house.holdings.claimed(0, Claimed(1, 0))
        await house.clock.advance(LEASE)

    assert (house.taken_up, house.holdings.has(0)) == ([], False)


async def test_of_a_shard_that_is_lost_as_its_jobs_are_taken_up_no_more_are() -> None:
    house = Surroundings()
    house.has("a", "b", "c")
    house.on_take_up = lambda: house.holdings.lost(0)
    async with house.running():
        house.holdings.claimed(0, Claimed(1, 0))
        await house.clock.advance(LEASE)

    assert house.taken_up == ["a"]
    assert sorted(house.let_go) == ["a", "b", "c"]
