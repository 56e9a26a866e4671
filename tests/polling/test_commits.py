"""How many commits of the journal a poll takes."""

import asyncio

import pytest

from relay import Record, Relay
from relay.jobs.observations import Observation
from relay.journal import MemoryJournal
from relay.polling import per_account, per_task
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep

A_POLL = ["checking", "received", "progress"]


class Slow(MemoryJournal):
    """A journal whose commits are expensive, so that deferrable ones are shared; notes what each holds."""

    @property
    def commit_delay(self) -> float:
        return 0.001

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[str]] = []

    def commit(self) -> None:
        before = self.head
        super().commit()
        self.commits.append([record.event.type for record in self.read(before)])


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


def patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (per_account, per_task):
        monkeypatch.setattr(module, "LINGER", seconds)


def upstream_of(kind: type[OneStep], clock: ManualClock, answered: asyncio.Event) -> OneStep:
    """An upstream of this *kind* that answers at once; one of single tasks only when *answered* is set."""

    async def answer(_: str) -> Observation:
        await answered.wait()
        return RUNNING

    if kind is Items:
        return Items(answer, clock)
    return OneStep(lambda tasks: dict.fromkeys(tasks, RUNNING))


@pytest.mark.parametrize("jobs", [1, 30])
@pytest.mark.parametrize("kind", [Items, OneStep])
async def test_the_records_of_a_poll_are_one_commit(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, kind: type[OneStep], jobs: int
) -> None:
    patient(monkeypatch, 3_600.0)
    answered = asyncio.Event()
    answered.set()
    journal = Slow()
    async with Relay([upstream_of(kind, clock, answered)], journal=journal, clock=clock) as relay:
        for number in range(jobs):
            relay.follow("scripted", f"t{number}")
        await clock.advance(10.0)
        del journal.commits[:]
        await clock.advance(25.0)

    held = [sorted(commit) for commit in journal.commits if commit]
    assert held
    assert all(commit == sorted(A_POLL * (len(commit) // 3)) for commit in held)


async def test_a_poll_whose_answer_takes_longer_has_its_beginning_committed_before(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 0.001)
    answered, seen, journal = asyncio.Event(), asyncio.Event(), Slow()

    def receive(record: Record) -> None:
        if record.event.type == "checking":
            seen.set()

    upstream = upstream_of(Items, clock, answered)
    async with Relay([upstream], sinks=[receive], journal=journal, clock=clock) as relay:
        relay.follow("scripted", "t")
        await clock.advance(1.0)
        await seen.wait()
        answered.set()
        await clock.advance(1.0)

    assert ["checking"] in journal.commits
    assert ["received", "progress"] in journal.commits
