"""An owner is one topic of the bus: all of one's jobs, also those to come, and nobody else's."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from relay.bus import REPLAY_SLICE, Bus
from relay.errors import UsageError
from relay.events import Log, Record
from relay.jobs import Job
from relay.jobs.registry import JobRegistry
from relay.journal import Journal, MemoryJournal, SqliteJournal
from relay.testing import ManualClock


class House:
    """A bus, and the registry that knows whose its jobs are."""

    def __init__(self, journal: Journal) -> None:
        numbers = count(1)
        self.jobs = JobRegistry(journal.keeps, new_id=lambda: f"job_{next(numbers)}")
        self.bus = Bus(journal, clock=ManualClock(), behind=self.jobs.behind)

    def admit(self, owner: str, records: int = 0) -> Job:
        job = self.jobs.admit(owner)
        self.say(job, records)
        return job

    def say(self, job: Job, records: int = 1) -> None:
        with self.bus.batch():
            for number in range(records):
                self.bus.publish(job, Log(line=f"line {number}"))


@pytest.fixture(params=["memory", "sqlite"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    with closing(MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "relay.db")) as journal:
        yield House(journal)


class Ear:
    """A sink that remembers what it received, under a name of its own if several share a list."""

    def __init__(self, heard: list[tuple[str, str, int]] | None = None, name: str = "") -> None:
        self.heard = [] if heard is None else heard
        self._name = name

    def __call__(self, record: Record) -> None:
        self.heard.append((self._name, record.job, record.seq))

    @property
    def records(self) -> list[tuple[str, int]]:
        return [(job, seq) for _, job, seq in self.heard]


def test_an_owner_receives_the_records_of_its_jobs_and_of_no_other(house: House) -> None:
    anns, bobs, nobodys = (house.admit(owner) for owner in ("ann", "bob", ""))
    ann, bob, nobody = Ear(), Ear(), Ear()
    for ear, owner in ((ann, "ann"), (bob, "bob"), (nobody, "")):
        house.bus.subscribe(ear, owner=owner)

    for job in (anns, bobs, anns, nobodys, bobs):
        house.say(job)

    assert ann.records == [(anns.id, 1), (anns.id, 2)]
    assert bob.records == [(bobs.id, 1), (bobs.id, 2)]
    assert nobody.records == [(nobodys.id, 1)]


def test_a_job_that_is_admitted_later_belongs_to_its_owners_subscriptions(house: House) -> None:
    ear = Ear()
    house.bus.subscribe(ear, owner="ann")

    late = house.admit("ann", 2)
    house.admit("bob", 2)

    assert ear.records == [(late.id, 1), (late.id, 2)]


def test_a_record_reaches_those_of_all_jobs_first_then_those_of_the_owner_and_then_those_of_the_job(
    house: House,
) -> None:
    heard: list[tuple[str, str, int]] = []
    job = house.admit("ann")
    house.bus.subscribe(Ear(heard, "job"), [job])
    house.bus.subscribe(Ear(heard, "owner"), owner="ann")
    house.bus.subscribe(Ear(heard, "everyone"))
    house.bus.subscribe(Ear(heard, "owner too"), owner="ann")

    house.say(job, 2)

    assert [(name, seq) for name, _, seq in heard] == [
        (name, seq) for seq in (1, 2) for name in ("everyone", "owner", "owner too", "job")
    ]


def test_a_sink_of_an_owner_that_leaves_receives_nothing_more_also_in_the_midst_of_a_record(house: House) -> None:
    job, ear = house.admit("ann"), Ear()
    house.bus.subscribe(lambda record: leaving.close() if record.seq == 2 else None, owner="ann")
    leaving = house.bus.subscribe(ear, owner="ann")

    house.say(job, 3)

    assert ear.records == [(job.id, 1)]


def test_a_topic_of_an_owner_is_gone_with_its_last_subscription(house: House) -> None:
    first, second = house.bus.subscribe(Ear(), owner="ann"), house.bus.subscribe(Ear(), owner="ann")
    sink = weakref.ref(last := Ear())
    third = house.bus.subscribe(last, owner="bob")
    del last
    assert len(house.bus._topics) == 2

    for subscription in (first, first, third):
        subscription.close()
    assert len(house.bus._topics) == 1
    second.close()
    del subscription, third
    gc.collect()

    assert (len(house.bus._topics), sink()) == (0, None)
    assert (house.jobs.of("ann"), house.jobs.of("bob")) == ([], [])


def test_what_is_kept_of_an_owner_comes_first_and_then_what_is_published(house: House) -> None:
    anns, bobs = house.admit("ann", 3), house.admit("bob", 3)
    other = house.admit("ann", 2)
    ear, late = Ear(), Ear()

    house.bus.subscribe(ear, owner="ann", after=1)
    house.bus.subscribe(late, owner="ann", after=house.bus.journal.head)
    for job in (bobs, other, anns):
        house.say(job)

    assert ear.records == [(anns.id, 2), (anns.id, 3), (other.id, 1), (other.id, 2), (other.id, 3), (anns.id, 4)]
    assert late.records == [(other.id, 3), (anns.id, 4)]


def test_an_owner_without_a_job_has_no_past(house: House) -> None:
    house.admit("ann", 3)
    ear = Ear()
    house.bus.subscribe(ear, owner="bob", after=0)
    assert ear.records == []

    bobs = house.admit("bob", 1)

    assert ear.records == [(bobs.id, 1)]


async def test_a_long_past_of_an_owner_is_replayed_in_slices_and_jobs_that_come_meanwhile_belong_to_it(
    house: House,
) -> None:
    first, ear = house.admit("ann", 4 * REPLAY_SLICE + 3), Ear()
    replaying = asyncio.create_task(house.bus.replay(ear, owner="ann", after=0))
    await asyncio.sleep(0)
    assert len(ear.records) == REPLAY_SLICE

    late = house.admit("ann", 2)
    house.admit("bob", 2)
    await replaying
    house.say(late)

    past = [(first.id, seq) for seq in range(1, 4 * REPLAY_SLICE + 4)]
    assert ear.records == [*past, (late.id, 1), (late.id, 2), (late.id, 3)]


def test_jobs_and_an_owner_together_are_refused(house: House) -> None:
    with pytest.raises(UsageError, match="for jobs or for an owner"):
        house.bus.subscribe(Ear(), [house.admit("ann")], owner="ann")
    assert len(house.bus._topics) == 0


def test_a_bus_that_knows_no_owners_has_no_past_of_one_to_offer() -> None:
    bus, ear = Bus(MemoryJournal(), clock=ManualClock()), Ear()
    with pytest.raises(UsageError, match="does not know which jobs an owner has"):
        bus.subscribe(ear, owner="ann", after=0)

    bus.subscribe(ear, owner="ann")
    bus.publish(Job("a", owner="ann"), Log(line="one"))

    assert ear.records == [("a", 1)]


def calls_of(act: Callable[[], object]) -> int:
    """How many functions *act* calls, of Python and of C, without those of a collection of garbage."""
    calls = 0

    def counted(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(counted)
    try:
        act()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return calls


def test_a_record_costs_as_much_however_many_owners_have_jobs_and_subscriptions() -> None:
    def cost(owners: int) -> int:
        house = House(MemoryJournal())
        job, ear = house.admit("owner 0"), Ear()
        house.bus.subscribe(ear, owner="owner 0")
        for number in range(1, owners):
            house.admit(f"owner {number}")
            house.bus.subscribe(Ear(), owner=f"owner {number}")
        house.say(job)
        calls = calls_of(lambda: house.say(job))
        assert ear.records == [(job.id, 1), (job.id, 2)]
        return calls

    assert cost(1) == cost(500)


def test_a_subscription_costs_as_much_however_many_jobs_its_owner_has() -> None:
    def cost(jobs: int) -> int:
        house = House(MemoryJournal())
        for _ in range(jobs):
            house.admit("ann")
        return calls_of(lambda: house.bus.subscribe(Ear(), owner="ann").close())

    assert cost(1) == cost(500)
