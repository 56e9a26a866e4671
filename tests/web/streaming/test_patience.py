"""A client is slow, or reads nothing, only in time in which the relay was running and waited for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp.web import Application

from relay import Relay
from relay.events import Done, Log, Progress
from relay.jobs import Job
from relay.testing import ManualClock
from sinks.sse import PAGE_BYTES
from tests.web.serving import serve_app
from tests.web.streaming.client import Block
from tests.web.streaming.test_crowds import Small, seqs
from web import create_app
from web.streaming.keys import REACTOR, STREAMS, WAITS
from web.streaming.patience import (
    BYTES_A_SECOND,
    LOOK_EVERY,
    STALL,
    TIMES,
    ClientWaits,
    Patience,
    WaitLimits,
)
from web.streaming.registry import OpenStream, StreamRegistry

RECORDS = 5_000

READ_IN_6_S = 8_192
"""Bytes: more than the kernel of a `Small` reader keeps, so that some of them were acknowledged meanwhile."""


class Timers:
    """The part of an event loop that sets timers: those that are set and not cancelled, each with its delay."""

    def __init__(self) -> None:
        self.set: list[tuple[float, object]] = []

    def call_later(self, delay: float, act: object) -> "Timers":
        self.set.append((delay, act))
        return self

    def cancel(self) -> None:
        self.set.pop()

    def time(self) -> float:
        return 0.0


class Now:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay([], clock=ManualClock()) as relay:
        yield relay


def test_a_reader_is_slow_once_the_relay_has_waited_for_it_long_enough() -> None:
    patience = Patience(2.0)
    over = []
    for _ in range(4):
        patience.waited(0.5)
        over.append(patience.is_over)

    assert over == [False, False, False, True]
    assert Patience(0).is_over, "with no patience, each reader that is behind is slow"


def over_after(patience: Patience, waits: list[tuple[float, int]]) -> list[bool]:
    """Whether it is over after each wait, of so many seconds for so many bytes."""
    over = []
    for seconds, accepted in waits:
        patience.waited(seconds, accepted)
        over.append(patience.is_over)
    return over


def test_what_a_reader_accepts_gives_it_time() -> None:
    busy = [(0.5, BYTES_A_SECOND // 2)] * 10
    stuck_and_reading_again = [(2.0, 0), (0.0, BYTES_A_SECOND)]

    assert over_after(Patience(2.0), busy + stuck_and_reading_again) == [False] * 10 + [True, False]


def test_no_time_is_saved_up() -> None:
    assert over_after(Patience(2.0), [(0.0, 100 * BYTES_A_SECOND), (2.0, 0)]) == [False, True]


def test_a_reader_that_accepts_much_and_stays_behind_is_slow_as_well() -> None:
    waits = TIMES * 4

    assert over_after(Patience(2.0), [(0.5, BYTES_A_SECOND)] * waits) == [False] * (waits - 1) + [True]


def test_a_wait_is_overdue_once_after_its_seconds() -> None:
    limits = WaitLimits[str]()
    limits.begin("a", 0.25, 10.0)
    limits.begin("b", 0.35, 10.0)

    assert [limits.overdue(now) for now in (10.1, 10.2, 10.3, 10.4, 10.5)] == [[], [], ["a"], ["b"], []]


def test_a_wait_is_overdue_at_its_very_end_and_the_next_look_is_for_those_that_are_left() -> None:
    limits = WaitLimits[str]()
    limits.begin("a", 0.125, 10.0)
    limits.begin("b", 60.0, 10.0)

    assert (limits.overdue(10.125), limits.next_look(10.125)) == (["a"], LOOK_EVERY)


def test_a_stall_is_held_against_no_wait() -> None:
    limits = WaitLimits[str]()
    limits.begin("a", 10.0, 0.0)

    assert limits.overdue(3_600.0) == []
    assert limits.running(3_600.0) == STALL
    after = [limits.overdue(3_600.0 + number * LOOK_EVERY) for number in range(1, 100)]
    assert [number for number, overdue in enumerate(after, 1) if overdue] == [98], "the rest of its 10 s"


def test_a_wait_that_ended_is_never_overdue() -> None:
    limits = WaitLimits[str]()
    limits.begin("a", 0.1, 0.0)
    limits.end("a")
    limits.end("a")

    assert limits.overdue(0.2) == []


def test_the_clock_is_looked_at_often_while_there_are_waits_and_never_otherwise() -> None:
    limits = WaitLimits[str]()
    pauses = [limits.next_look(0.0)]
    limits.begin("a", 1.0, 0.0)
    pauses.append(limits.next_look(0.0))
    limits.begin("b", 0.05, 0.0)
    pauses.append(limits.next_look(0.0))
    limits.end("b")
    limits.end("a")
    pauses.append(limits.next_look(0.0))

    assert pauses == [None, LOOK_EVERY, 0.05, None]


async def test_a_block_that_takes_too_long_ends_with_a_timeout(now: Now) -> None:
    waits = ClientWaits(10.0, now=now)

    async def run(seconds: float | None) -> None:
        async with waits.limit(seconds):
            await asyncio.Event().wait()

    short, usual = asyncio.create_task(run(1.0)), asyncio.create_task(run(None))
    await asyncio.sleep(0)
    for _ in range(11):
        now.seconds += LOOK_EVERY
        waits.look()
    await asyncio.wait([short])
    assert isinstance(short.exception(), TimeoutError)
    assert not usual.done()
    for _ in range(90):
        now.seconds += LOOK_EVERY
        waits.look()
    await asyncio.wait([usual])
    assert isinstance(usual.exception(), TimeoutError)


def an_app(relay: Relay, now: Now, *, take_over: bool, send_timeout: float = 3_600) -> Application:
    app = create_app(relay, send_timeout=send_timeout, heartbeat=3_600, slow_after=2.0, take_over=take_over)
    app[WAITS] = app[REACTOR].waits = ClientWaits(send_timeout, now=now)
    return app


async def fall_behind(relay: Relay, app: Application, reader: Small) -> Job:
    """Open a stream for *reader*, and publish more than all buffers on the way hold, until the relay waits for it."""
    job = relay.registry.admit()
    relay.bus.publish(job, Log(line="line 1"))
    await reader.opens(f"/v1/jobs/{job.id}/events")
    await reader.reads_until(b"line 1")
    for number in range(RECORDS - 2):
        relay.bus.publish(job, Progress(percent=number // 100, status="running"))
        if number % 100 == 0:
            await asyncio.sleep(0)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    (stream,) = app[STREAMS]
    for _ in range(10):  # to where the relay waits
        await asyncio.sleep(0)
    assert stream.state == "slow"
    return job


async def read_all(reader: Small) -> tuple[list[int], list[Block]]:
    while await reader.reads():
        pass
    return seqs(reader.heard), [block for block in reader.heard if block.event == "skipped"]


@pytest.mark.parametrize("take_over", [True, False])
async def test_a_reader_that_was_behind_while_the_machine_stood_still_receives_all(
    relay: Relay, now: Now, take_over: bool
) -> None:
    app = an_app(relay, now, take_over=take_over)
    async with serve_app(app) as client:
        reader = Small(client)
        await fall_behind(relay, app, reader)
        now.seconds += 3.0
        received, skipped = await read_all(reader)

    assert (received, skipped) == (list(range(1, RECORDS + 1)), [])


@pytest.mark.parametrize("take_over", [True, False])
async def test_a_reader_for_which_the_relay_waits_too_long_receives_the_latest_and_the_number_of_the_rest(
    relay: Relay, now: Now, take_over: bool
) -> None:
    app = an_app(relay, now, take_over=take_over)
    async with serve_app(app) as client:
        reader = Small(client)
        await fall_behind(relay, app, reader)
        for _ in range(21):
            now.seconds += LOOK_EVERY
            app[WAITS].look()
        received, skipped = await read_all(reader)

    missed = sum(block.says["missed"] for block in skipped)
    assert missed > 0
    assert (len(received) + missed, received[-1]) == (RECORDS, RECORDS)


@pytest.mark.parametrize("take_over", [True, False])
async def test_a_reader_that_reads_nothing_is_cut_off_and_not_for_a_stall(
    relay: Relay, now: Now, take_over: bool
) -> None:
    app = an_app(relay, now, take_over=take_over, send_timeout=10.0)
    async with serve_app(app) as client:
        reader = Small(client)
        await fall_behind(relay, app, reader)
        (stream,) = app[STREAMS]
        now.seconds += 3_600.0
        app[WAITS].look()
        await asyncio.sleep(0)
        assert not stream.done.is_set()
        await waited_for(stream, now, app[WAITS])
        received, _ = await read_all(reader)

    assert len(received) < RECORDS


async def waited_for(stream: OpenStream, now: Now, waits: ClientWaits) -> None:
    """Wait for *stream* until the relay ends it; what its client's kernel still accepts gives it more time."""
    while not stream.done.is_set():
        now.seconds += LOOK_EVERY
        waits.look()
        await asyncio.sleep(0)


async def test_a_wait_goes_on_as_long_as_its_client_reads(now: Now) -> None:
    waits, read = ClientWaits(10.0, now=now), 0
    waiting = asyncio.create_task(waits.while_reading(asyncio.Event().wait, lambda: read))
    done = []
    for reads, looks in ((1, 80), (1, 80), (0, 130)):
        read += reads
        for _ in range(looks):
            now.seconds += LOOK_EVERY
            waits.look()
            for _ in range(3):
                await asyncio.sleep(0)
        done.append(waiting.done())

    assert done == [False, False, True]
    assert isinstance(waiting.exception(), ConnectionError)


async def test_a_reader_that_reads_little_is_told_what_it_misses_and_is_not_cut_off(
    relay: Relay, now: Now, take_over: bool
) -> None:
    app = an_app(relay, now, take_over=take_over, send_timeout=10.0)
    async with serve_app(app) as client:
        reader = Small(client)
        await fall_behind(relay, app, reader)
        (stream,) = app[STREAMS]
        while not stream.done.is_set():
            more = len(reader.stream) + READ_IN_6_S
            while len(reader.stream) < more and await reader.reads(2_048):
                pass
            for _ in range(60):
                now.seconds += LOOK_EVERY
                app[WAITS].look()
                await asyncio.sleep(0)
        received, skipped = await read_all(reader)

    missed = sum(block.says["missed"] for block in skipped)
    assert missed > 0
    assert (len(received) + missed, received[-1]) == (RECORDS, RECORDS)


@pytest.mark.parametrize("take_over", [True, False])
async def test_a_reader_that_stops_in_the_middle_of_a_replay_is_cut_off(
    relay: Relay, now: Now, take_over: bool
) -> None:
    job = relay.registry.admit()
    for _ in range(500):
        relay.bus.publish(job, Log(line="x" * 1_000))
    app = an_app(relay, now, take_over=take_over, send_timeout=10.0)
    async with serve_app(app) as client:
        reader = Small(client)
        await reader.opens(f"/v1/jobs/{job.id}/events")
        while len(reader.stream) < PAGE_BYTES * 5 // 4:
            assert await reader.reads()
        (stream,) = app[STREAMS]
        for _ in range(10):  # to where the relay waits, in its second page
            await asyncio.sleep(0)
        await waited_for(stream, now, app[WAITS])
        received, _ = await read_all(reader)

    assert len(received) < 500


class Leaving(OpenStream):
    """A stream that ends once it is cut off."""

    def __init__(self, streams: StreamRegistry) -> None:
        super().__init__("peer")
        self._streams = streams

    def close(self) -> None: ...

    def wake(self) -> None: ...

    def cut(self) -> None:
        self._streams.remove(self)


async def test_a_stall_while_the_relay_shuts_down_cuts_no_client_off(now: Now) -> None:
    waits = ClientWaits(10.0, now=now)
    streams = StreamRegistry(3_600, waits)
    streams.add(Leaving(streams))
    closing = asyncio.create_task(streams.close())
    await asyncio.sleep(0)
    now.seconds += 3_600.0
    waits.look()
    for _ in range(10):
        await asyncio.sleep(0)
    open_after_the_stall = len(streams)
    for _ in range(10):
        now.seconds += LOOK_EVERY
        waits.look()
    await closing

    assert (open_after_the_stall, len(streams)) == (1, 0)


async def test_all_waits_have_one_timer_and_a_short_one_brings_it_forward(
    now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    waits = ClientWaits(10.0, now=now)
    set_by_then: list[float] = []
    async with AsyncExitStack() as stack:
        for seconds in (10.0, 0.05, 0.02, 10.0):
            await stack.enter_async_context(waits.limit(seconds))
            [(delay, _)] = timers.set
            set_by_then.append(delay)
        now.seconds += 0.005
        waits.look()
        [(delay, _)] = timers.set
        set_by_then.append(delay)

    assert set_by_then == pytest.approx([LOOK_EVERY, 0.05, 0.02, 0.02, 0.015])
