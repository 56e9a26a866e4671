"""A pass over many jobs is made in slices: others have their turn in between, and it can end at each."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Final

import pytest

from relay import Pace, Record, Relay
from relay.clock import Clock
from relay.errors import UpstreamError
from relay.events import Cancelled, Checking, Done, DraftsFetch, Event, Failed, Progress, Retrying
from relay.jobs import Job
from relay.jobs.observations import Observation, Result
from relay.journal import SqliteJournal
from relay.polling.watches import SLICE
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep, TwoStep

LONG: Final = 5 * SLICE
TASKS: Final = [f"t{number}" for number in range(LONG)]
SOON: Final = 10.0
"""Seconds until a job's deadline, where it has one that counts."""

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
ELSEWHERE = Observation(status="succeeded")
DOWN = UpstreamError("server", "the upstream answered 503")
REFUSED = UpstreamError("auth", "the upstream answered 401")


Make = Callable[[Clock], OneStep]


class Told(SqliteJournal):
    """A journal whose records are told as soon as a slice is over."""

    @property
    def commit_delay(self) -> float:
        return 0.0


def lists(said: Observation | Exception) -> Make:
    """An upstream that says the same of every task, and has all results elsewhere."""

    def answer(tasks: Sequence[str]) -> Mapping[str, Observation] | Exception:
        return said if isinstance(said, Exception) else dict.fromkeys(tasks, said)

    return lambda _: TwoStep(answer, lambda tasks: dict.fromkeys(tasks, FINISHED))


def singles(said: Observation | UpstreamError) -> Make:
    """One that is asked for each task by itself."""

    async def answer(_: str) -> Observation | UpstreamError:
        return said

    return lambda clock: Items(answer, clock)


PASSES = pytest.mark.parametrize(
    ("kind", "make"),
    [
        pytest.param(Checking, lists(RUNNING), id="asking"),
        pytest.param(Progress, lists(RUNNING), id="reading"),
        pytest.param(DraftsFetch, lists(ELSEWHERE), id="sending for results"),
        pytest.param(Done, lists(ELSEWHERE), id="reading results"),
        pytest.param(Retrying, lists(DOWN), id="backing off"),
        pytest.param(Retrying, lists(REFUSED), id="pausing"),
        pytest.param(Failed, lists(RUNNING), id="ending what is overdue"),
        pytest.param(Retrying, singles(REFUSED), id="pausing single jobs"),
        pytest.param(Failed, singles(RUNNING), id="ending single jobs that are overdue"),
    ],
)
"""Every pass that is made over all jobs of an upstream, by the record that it tells of each."""


class Hearing:
    """A sink that keeps all records, and has *act* called between slices once it has heard *after* of one kind.

    *turns* counts the first LONG records of that kind by the turn of the event loop in which they came.
    """

    def __init__(self, kind: type[Event], act: Callable[[], object] = bool, *, after: int = LONG // 2) -> None:
        self.records: list[Record] = []
        self.turns: Counter[int] = Counter()
        self._kind = kind
        self._act = act
        self._after = after
        self._turn = 0
        self._heard = 0

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        if not isinstance(record.event, self._kind) or self._heard == LONG:
            return
        if not self._heard:
            self._next_turn()
        self._heard += 1
        self.turns[self._turn] += 1
        if self._heard == self._after:
            asyncio.get_running_loop().call_soon(self._act)

    def _next_turn(self) -> None:
        self._turn += 1
        if self._heard < LONG:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def of(self, job: Job) -> list[Record]:
        return [record for record in self.records if record.job == job.id]


def requests(upstream: OneStep) -> list[tuple[str, ...]]:
    """What was asked for with each request."""
    return [(task,) for _, task in upstream.times] if isinstance(upstream, Items) else upstream.asked


def whole(story: Sequence[Record]) -> bool:
    """Whether a story is numbered without a gap, and has at most one end, which is its last."""
    ends = [record.seq for record in story if record.terminal]
    return [record.seq for record in story] == list(range(1, len(story) + 1)) and ends in ([], [len(story)])


def otherwise_kept(path: Path, told: Sequence[Record]) -> list[tuple[Record | None, Record | None]]:
    """Where the journal at *path* holds anything else than what was *told*, the first such place."""
    with closing(SqliteJournal(path)) as journal:
        kept = journal.read(0, limit=2 * len(told))
    return [pair for pair in zip_longest(kept, told) if pair[0] != pair[1]][:1]


@PASSES
async def test_a_relay_that_is_left_in_the_midst_of_a_pass_loses_nothing_and_the_next_one_goes_on(
    kind: type[Event], make: Make, tmp_path: Path
) -> None:
    clock, path, stop, before = ManualClock(auto=True), tmp_path / "relay.db", asyncio.Event(), asyncio.all_tasks()
    hearing, paces = Hearing(kind, stop.set), {"scripted": Pace(deadline=SOON)}
    async with Relay([make(clock)], sinks=[hearing], journal=Told(path), clock=clock, paces=paces) as relay:
        jobs = [relay.follow("scripted", task) for task in TASKS]
        await stop.wait()
    assert asyncio.all_tasks() == before
    assert LONG // 2 <= sum(hearing.turns.values()) < LONG, "it was left in the midst of it"
    assert otherwise_kept(path, hearing.records) == []

    after = Hearing(kind)
    finishing = OneStep(lambda tasks: dict.fromkeys(tasks, FINISHED))
    async with Relay([finishing], sinks=[after], journal=Told(path), clock=clock, paces={}) as relay:
        while not all(job.ended for job in relay.jobs()):
            await clock.sleep(1.0)
    stories = [hearing.of(job) + after.of(job) for job in jobs]
    assert all(whole(story) and story[-1].terminal for story in stories)
    assert otherwise_kept(path, hearing.records + after.records) == []


@PASSES
async def test_jobs_that_are_cancelled_in_the_midst_of_a_pass_end_there_and_the_others_go_on(
    kind: type[Event], make: Make
) -> None:
    clock, called = ManualClock(auto=True), asyncio.Event()
    cancelled: list[Job] = []
    cancelling: list[asyncio.Task[Job]] = []
    asked: list[int] = []

    def cancel() -> None:
        told = {record.job for record in hearing.records if isinstance(record.event, kind)}
        # Whom the pass before came to last, this one does too.
        in_turn = sorted(jobs, key=lambda job: hearing.of(job)[-1].position.offset)
        cancelled.extend([job for job in in_turn if (job.id in told) is over][-1] for over in (True, False))
        cancelling.extend(asyncio.ensure_future(relay.cancel(job.id)) for job in cancelled)
        asked.append(len(requests(scripted)))
        called.set()

    hearing, scripted = Hearing(kind, cancel), make(clock)
    relay = Relay([scripted], sinks=[hearing], clock=clock, paces={"scripted": Pace(deadline=SOON)})
    async with relay:
        jobs = [relay.follow("scripted", task) for task in TASKS]
        await called.wait()
        await asyncio.gather(*cancelling)
        await clock.sleep(2 * SOON)

    assert sum(hearing.turns.values()) >= LONG - 1, "the pass went on"
    assert all(whole(story) and story[-1].terminal for story in map(hearing.of, jobs))
    assert isinstance(cancelled[1].state.terminal, Cancelled)
    # A request that is about to be made when they end may still name them; none after it does.
    assert not any(job.state.task in tasks for tasks in requests(scripted)[asked[0] + 1 :] for job in cancelled)


@PASSES
async def test_a_pass_over_many_jobs_gives_the_loop_its_turn_after_every_few_jobs(
    kind: type[Event], make: Make
) -> None:
    clock = ManualClock(auto=True)
    hearing = Hearing(kind)
    async with Relay([make(clock)], sinks=[hearing], clock=clock, paces={"scripted": Pace(deadline=SOON)}) as relay:
        for task in TASKS:
            relay.follow("scripted", task)
        await clock.sleep(2 * SOON)

    # A job whose poll failed says so before the others that wait for it.
    assert max(hearing.turns.values()) <= SLICE + 1
    assert sum(hearing.turns.values()) == LONG


@PASSES
async def test_a_pass_over_many_jobs_keeps_no_other_upstream_waiting(kind: type[Event], make: Make) -> None:
    clock = ManualClock(auto=True)
    quick = OneStep(lambda tasks: dict.fromkeys(tasks, FINISHED))
    quick.name = "quick"
    hearing = Hearing(kind, lambda: relay.follow("quick", "t"), after=SLICE)
    relay = Relay([make(clock), quick], sinks=[hearing], clock=clock, paces={"scripted": Pace(deadline=SOON)})
    async with relay:
        for task in TASKS:
            relay.follow("scripted", task)
        await clock.sleep(2 * SOON)

    (job,) = [job for job in relay.jobs() if job.state.upstream == "quick"]
    ended = hearing.records.index(hearing.of(job)[-1])
    told = sum(isinstance(record.event, kind) for record in hearing.records[:ended])
    assert [record.event.type for record in hearing.of(job)] == ["accepted", "checking", "received", "done"]
    assert told < LONG
