"""Jobs of several owners in one relay: each finds its own alone, also after a restart, and nobody reads whose it is."""

import json
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest

from relay import Record, Relay
from relay.errors import ConflictError, UsageError
from relay.events import Cancelled, Exchange
from relay.jobs import Job
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.journal import MemoryJournal, SqliteJournal
from relay.testing import ManualClock
from relay.upstreams.base import News, Pushes
from sinks import ConsoleSink
from tests.relay.scripted import RUNNING, OneStep, TwoStep, an_exchange, ended, story
from tests.web.serving import serve

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
CANCELLED = Observation(status="cancelled", failure=Failure(kind="cancelled", message="cancelled"))
INPUT = {"prompt": "a cat"}
CANARY = "canary0a7f3C9e5Bd1"


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


def on_all(said: Observation) -> OneStep:
    return TwoStep(lambda tasks: dict.fromkeys(tasks, said))


def types(relay: Relay, job: Job) -> list[str]:
    return [record.event.type for record in relay.journal.read(0, [job.id])]


async def test_a_task_that_two_owners_follow_is_two_jobs_with_a_story_each(clock: ManualClock) -> None:
    async with Relay([on_all(FINISHED)], clock=clock) as relay:
        anns, bobs, nobodys = (relay.follow("scripted", "t", owner) for owner in ("ann", "bob", ""))
        assert len({anns.id, bobs.id, nobodys.id}) == 3
        assert relay.follow("scripted", "t", "ann") is anns
        assert relay.follow("scripted", "t") is nobodys
        await ended(relay, anns, bobs, nobodys)

        assert [relay.followed("scripted", "t", owner) for owner in ("ann", "bob", "", "cleo")] == [
            *(anns, bobs, nobodys),
            None,
        ]
        assert [relay.jobs(owner) for owner in ("ann", "bob", "", "cleo")] == [[anns], [bobs], [nobodys], []]
        assert relay.jobs() == [anns, bobs, nobodys]
        assert types(relay, anns) == types(relay, bobs) == ["accepted", "checking", "received", "done"]


async def test_the_key_of_one_owner_is_free_for_another_and_never_a_conflict_of_theirs(clock: ManualClock) -> None:
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, FINISHED))
    async with Relay([upstream], clock=clock) as relay:
        anns = relay.submit("scripted", INPUT, key="k", owner="ann")
        bobs = relay.submit("scripted", {"prompt": "a dog"}, key="k", owner="bob")

        assert (anns is not bobs, anns.owner, bobs.owner) == (True, "ann", "bob")
        assert relay.submit("scripted", INPUT, key="k", owner="ann") is anns
        with pytest.raises(ConflictError):
            relay.submit("scripted", INPUT, key="k", owner="bob")
        assert [relay.submitted("k", owner) for owner in ("ann", "bob", "")] == [anns, bobs, None]

        relay.release("k", "ann")
        assert [relay.submitted("k", owner) for owner in ("ann", "bob")] == [None, bobs]
        await ended(relay, anns, bobs)
        assert upstream.submitted == [INPUT, {"prompt": "a dog"}]
        assert relay.followed("scripted", "task_1", "ann") is anns
        assert relay.followed("scripted", "task_1", "bob") is None


async def test_owners_tasks_and_keys_are_there_again_after_a_kill_and_after_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    def relay_on(path: Path) -> Relay:
        return Relay([on_all(RUNNING)], journal=SqliteJournal(path), clock=clock, submit_grace=0.0)

    def found(relay: Relay) -> list[list[str]]:
        return [[job.id for job in relay.jobs(owner)] for owner in ("ann", "bob", "")]

    path, left = tmp_path / "relay.db", tmp_path / "left.db"
    async with relay_on(path) as relay:
        relay.submit("scripted", INPUT, key="released", owner="ann")
        anns = relay.submit("scripted", INPUT, key="k", owner="ann")
        bobs, nobodys = relay.follow("scripted", "t", "bob"), relay.follow("scripted", "t")
        relay.release("released", "ann")
        await clock.sleep(10)
        ids = found(relay)
        # What a kill at this moment leaves behind.
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{left}{ending}")
    for again in (path, left):
        async with relay_on(again) as relay:
            assert found(relay) == ids
            assert relay.submit("scripted", INPUT, key="k", owner="ann").id == anns.id
            assert (relay.submitted("k", "bob"), relay.submitted("released", "ann")) == (None, None)
            assert [relay.follow("scripted", "t", owner).id for owner in ("bob", "")] == [bobs.id, nobodys.id]
            assert relay.followed("scripted", "t", "ann") is None
            assert [job.owner for job in relay.jobs()] == ["ann", "ann", "bob", ""]


async def test_a_job_of_a_cancelled_task_that_another_owner_follows_goes_on_until_a_poll_says_so(
    clock: ManualClock,
) -> None:
    said = [RUNNING]
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, said[0]))
    async with Relay([upstream], clock=clock) as relay:
        anns, bobs = relay.follow("scripted", "t", "ann"), relay.follow("scripted", "t", "bob")
        await clock.sleep(3)
        await relay.cancel(anns.id)
        assert (upstream.cancelled, anns.state.terminal, bobs.ended) == (["t"], Cancelled(by="caller"), False)
        assert relay.wake("scripted", "t")

        said[0] = CANCELLED
        await ended(relay, bobs)

    assert bobs.state.terminal == Cancelled(by="upstream", message="cancelled")


async def test_what_is_no_owner_is_refused_before_anything_is_kept_or_submitted(clock: ManualClock) -> None:
    upstream = TwoStep(story({}))
    async with Relay([upstream], clock=clock) as relay:
        for owner in ("ann\0", "x" * 257, "caf\udce9"):
            with pytest.raises(UsageError, match="an owner is"):
                relay.follow("scripted", "t", owner)
            with pytest.raises(UsageError, match="an owner is"):
                relay.submit("scripted", INPUT, owner=owner)
        assert (relay.jobs(), relay.journal.head, upstream.submitted) == ([], 0, [])


async def test_news_of_a_task_wakes_the_jobs_of_all_owners_that_have_not_ended(clock: ManualClock) -> None:
    class Pushing(TwoStep):
        def __init__(self) -> None:
            super().__init__(lambda tasks: dict.fromkeys(tasks, RUNNING))
            self.on_news: News | None = None

    upstream = Pushing()
    assert isinstance(upstream, Pushes)
    async with Relay([upstream], clock=clock) as relay:
        anns, bobs = relay.follow("scripted", "t", "ann"), relay.follow("scripted", "t", "bob")
        news = upstream.on_news
        assert news is not None
        assert news("t")
        await relay.cancel(anns.id)
        assert news("t")
        await relay.cancel(bobs.id)
        assert not news("t")


async def test_a_raw_exchange_names_the_jobs_of_all_owners(clock: ManualClock) -> None:
    heard: list[Exchange] = []
    upstream = OneStep(story({}))
    async with Relay([upstream], clock=clock) as relay:
        jobs = [relay.follow("scripted", task, owner) for task, owner in (("t", "ann"), ("u", "ann"), ("t", "bob"))]
        with_exchanges = relay.bus.subscribe_exchanges(heard.append)
        assert upstream.on_exchange is not None
        upstream.on_exchange(an_exchange(clock.now(), "u", "t", upstream="scripted"))
        with_exchanges()

    assert [exchange.jobs for exchange in heard] == [(jobs[1].id, jobs[0].id, jobs[2].id)]


async def test_an_owner_with_many_neighbours_reads_its_past_by_the_ids_of_its_jobs(clock: ManualClock) -> None:
    async with Relay([OneStep(story({}))], clock=ManualClock(), journal=MemoryJournal()) as relay:
        for number in range(50):
            relay.follow("scripted", f"t{number}", f"owner {number % 25}")
        ids = relay.registry.behind(20, "owner 7")

        assert ids == [job.id for job in relay.jobs("owner 7") if job.state.offset > 20]
        assert [record.job for record in relay.journal.read(20, ids)] == ids == [relay.jobs("owner 7")[1].id]
        nothing = relay.registry.behind(relay.journal.head, "owner 7")
        assert (nothing, relay.journal.read(20, nothing), relay.journal.has_all_since(0, nothing)) == ([], [], True)


@pytest.mark.server
async def test_nobody_reads_whose_a_job_is(tmp_path: Path, clock: ManualClock) -> None:
    """An owner is not in records, on the console, in notices, exchanges, snapshots, streams, the list or a problem."""
    notices, console, exchanges = list[str](), StringIO(), list[Exchange]()
    records: list[Record] = []

    class Odd(TwoStep):
        async def observe(self, tasks: Sequence[str]) -> Answer:
            if self.on_exchange is not None:
                self.on_exchange(an_exchange(clock.now(), *tasks, upstream="scripted"))
            if not self.asked:
                self.asked.append(tuple(tasks))
                raise KeyError("a fault of the adapter, for a notice")
            return await super().observe(tasks)

    relay = Relay(
        [Odd(lambda tasks: dict.fromkeys(tasks, FINISHED))],
        sinks=[records.append, ConsoleSink(console, format="json")],
        journal=SqliteJournal(tmp_path / "relay.db"),
        clock=clock,
        notify=notices.append,
    )
    async with relay, serve(relay) as client:
        relay.bus.subscribe_exchanges(exchanges.append)
        jobs = [
            relay.follow("scripted", "t", CANARY),
            relay.submit("scripted", INPUT, key="k", owner=CANARY),
        ]
        with pytest.raises(ConflictError) as conflict:
            relay.submit("scripted", {}, key="k", owner=CANARY)
        await ended(relay, *jobs)
        read = [str(conflict.value), *map(repr, jobs), *(repr(job.snapshot()) for job in jobs), *map(repr, exchanges)]
        for path in ("/v1/jobs", *(f"/v1/jobs/{job.id}{part}" for job in jobs for part in ("", "/events", "/none"))):
            async with client.get(path) as response:
                read += [await response.text(), str(response.headers)]
    read += [*notices, console.getvalue(), *(record.json.decode() for record in records), *map(repr, records)]

    assert all(job.ended and job.owner == CANARY for job in jobs)
    assert (len(exchanges) > 0, len(notices) > 0) == (True, True)
    assert sum(json.loads(line)["job"] == jobs[0].id for line in console.getvalue().splitlines()) > 3
    assert [text for text in read if "canary" in text] == []
