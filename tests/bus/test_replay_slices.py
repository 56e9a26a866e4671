"""A long past is replayed a slice at a time: others have their turn, and nothing is missed or heard twice."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from relay import Record
from relay.bus import REPLAY_SLICE, Bus
from relay.errors import UsageError
from relay.events import Log
from relay.jobs import Job
from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from relay.testing import ManualClock

LONG = 8 * REPLAY_SLICE + 5


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Retention], Journal]:
    return lambda keep: MemoryJournal(keep) if request.param == "memory" else SqliteJournal(tmp_path / "relay.db", keep)


class Turns:
    """A sink that notes what it got in each turn of the event loop."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.turns: list[int] = []
        self._turn = 0
        self._counting = asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._turn += 1
        if self._turn < 1_000:
            self._counting = asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        self._counting.cancel()

    def __call__(self, record: Record) -> None:
        self.seqs.append(record.seq)
        self.turns.append(self._turn)

    @property
    def most_at_once(self) -> int:
        return max(self.turns.count(turn) for turn in set(self.turns))


def say(bus: Bus, job: Job, times: int) -> None:
    with bus.batch():
        for number in range(times):
            bus.publish(job, Log(line=f"{number}"))


async def test_others_have_their_turn_and_what_is_said_meanwhile_comes_behind_once(
    make: Callable[[Retention], Journal],
) -> None:
    bus, job, sink = Bus(make(Retention()), clock=ManualClock()), Job("a"), Turns()
    say(bus, job, LONG)

    replaying = asyncio.create_task(bus.replay(sink, after=0, name="late"))
    said = 0
    while not replaying.done():
        await asyncio.sleep(0)
        say(bus, job, 3)
        said += 3
    subscription = await replaying
    say(bus, job, 2)
    sink.stop()

    assert sink.seqs == list(range(1, LONG + said + 3))
    assert sink.most_at_once <= REPLAY_SLICE + 3
    assert said > 3 * LONG // REPLAY_SLICE - 3, "it gave way at each slice"
    assert subscription.name == "late"
    await bus.close()


async def test_a_short_past_needs_no_turn_of_the_loop() -> None:
    bus, job, seqs = Bus(MemoryJournal(), clock=ManualClock()), Job("a"), list[int]()
    say(bus, job, REPLAY_SLICE - 1)
    replaying = bus.replay(lambda record: seqs.append(record.seq), after=5)
    with pytest.raises(StopIteration):
        replaying.send(None)
    assert seqs == list(range(6, REPLAY_SLICE))


async def test_a_replay_of_some_jobs_is_of_these_alone(make: Callable[[Retention], Journal]) -> None:
    bus, jobs, heard = (
        Bus(make(Retention()), clock=ManualClock()),
        [Job("a"), Job("b"), Job("c")],
        list[tuple[str, int]](),
    )
    for _ in range(300):
        for job in jobs:
            say(bus, job, 1)

    subscription = await bus.replay(lambda record: heard.append((record.job, record.seq)), jobs[:2], after=0)
    for job in jobs:
        say(bus, job, 1)
    subscription.close()
    say(bus, jobs[0], 1)

    assert heard == [(name, seq) for seq in range(1, 302) for name in ("a", "b")]
    await bus.close()


async def test_what_the_journal_forgets_meanwhile_is_passed_over(make: Callable[[Retention], Journal]) -> None:
    bus, job, seqs = Bus(make(Retention(records=3 * REPLAY_SLICE)), clock=ManualClock()), Job("a"), list[int]()
    say(bus, job, 3 * REPLAY_SLICE)

    replaying = asyncio.create_task(bus.replay(lambda record: seqs.append(record.seq), after=0))
    await asyncio.sleep(0)
    say(bus, job, 2 * REPLAY_SLICE)
    await replaying
    say(bus, job, 1)

    assert seqs == sorted(set(seqs))
    assert (seqs[0], seqs[-1]) == (1, 5 * REPLAY_SLICE + 1)
    assert set(seqs) >= {record.seq for record in bus.journal.read(0)}
    await bus.close()


async def test_a_replay_that_is_cancelled_leaves_the_sink_unsubscribed() -> None:
    bus, job, seqs = Bus(MemoryJournal(), clock=ManualClock()), Job("a"), list[int]()
    say(bus, job, LONG)
    replaying = asyncio.create_task(bus.replay(lambda record: seqs.append(record.seq), after=0))
    await asyncio.sleep(0)
    replaying.cancel()
    await asyncio.wait([replaying])
    say(bus, job, 1)

    assert seqs == list(range(1, REPLAY_SLICE + 1))


@pytest.mark.parametrize("replay", ["at once", "in slices"])
async def test_a_sink_that_publishes_while_it_is_replayed_to_is_refused_as_it_is_live(replay: str) -> None:
    notices = list[str]()
    bus, job, calls = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), Job("a"), list[int]()
    say(bus, job, 3)

    def talkative(record: Record) -> None:
        calls.append(record.seq)
        if len(calls) < 100:
            bus.publish(job, Log(line="more"))

    if replay == "at once":
        subscription = bus.subscribe(talkative, after=0)
    else:
        subscription = await bus.replay(talkative, after=0)

    assert (calls, subscription.failures, bus.journal.head) == ([1, 2, 3], 3, 3)
    assert "UsageError: a sink may not publish" in notices[0]
    assert bus.publish(job, Log(line="others may")).seq == 4


async def test_between_two_slices_others_may_publish() -> None:
    bus, job = Bus(MemoryJournal(), clock=ManualClock()), Job("a")
    say(bus, job, LONG)
    replaying = asyncio.create_task(bus.replay(lambda _: None, after=0))
    await asyncio.sleep(0)
    assert not replaying.done()
    assert bus.publish(job, Log(line="between")).seq == LONG + 1
    await replaying


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
async def test_an_interruption_out_of_a_replay_passes_on_and_the_sink_is_not_subscribed(
    interruption: type[BaseException],
) -> None:
    bus, job = Bus(MemoryJournal(), clock=ManualClock()), Job("a")
    say(bus, job, 3)

    def interrupted(_: Record) -> None:
        raise interruption

    replaying = bus.replay(interrupted, after=0)
    with pytest.raises(interruption):
        replaying.send(None)
    bus.publish(job, Log(line="nobody is interrupted"))


async def test_what_is_no_sink_is_refused_before_anything_is_replayed() -> None:
    async def asynchronous(_: Record) -> None: ...

    with pytest.raises(UsageError, match="a sink is never awaited"):
        await Bus(MemoryJournal(), clock=ManualClock()).replay(asynchronous, after=0)
