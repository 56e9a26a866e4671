"""In the fan-out, the heartbeat, the doorman and the end of streams, what fails for one stops no other."""

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
import pytest
from aiohttp.web import AppRunner

from relay import Position, Record, Relay
from relay.events import Done, Log
from relay.testing import ManualClock
from sinks import HEARTBEAT, frame
from tests.web.serving import serve
from web import create_app
from web.middleware.idle_timeout import IdleConnectionReaper, reap_idle_connections
from web.streaming.fanout import FanOut
from web.streaming.patience import ClientWaits
from web.streaming.registry import OpenStream, StreamRegistry
from web.streaming.selection import Selection
from web.streaming.wire import SSE, RecordWire

PATIENCE = 60.0


class Poison:
    """Puts every record on the wire but those of a line that it cannot stand."""

    def __init__(self) -> None:
        self.refused = 0

    def __call__(self, record: Record) -> bytes:
        if isinstance(record.event, Log) and record.event.line == "poison":
            self.refused += 1
            raise UnicodeError("no such character")
        return frame(record)


@pytest.mark.parametrize("live", [True, False], ids=["live", "from the journal"])
async def test_a_record_that_one_encoder_cannot_put_on_the_wire_is_said_to_be_missing_and_every_stream_goes_on(
    live: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = Poison()
    wire = msgspec.structs.replace(SSE, record=poison)
    monkeypatch.setattr("web.streaming.handlers.negotiate_wire", lambda _: wire)
    relay = Relay([], clock=ManualClock())
    async with serve(relay) as client:
        job, other = relay.registry.admit(), relay.registry.admit()

        def say() -> None:
            for line in ("before", "poison", "poison", "after"):
                relay.bus.publish(job, Log(line=line))
            relay.bus.publish(other, Log(line="of another"))
            for ending in (job, other):
                relay.bus.publish(ending, Done(urls=("https://a/b",)))

        if not live:
            say()
        async with client.get(f"/v1/events?job={job.id}&job={other.id}") as response:
            assert response.status == HTTPStatus.OK
            if live:
                await response.content.readline()  # its first heartbeat: it is up to date
                await asyncio.sleep(0)
                say()
            body = await response.text()

    told = [(block.split("\n")[0], block.split("\n")[1]) for block in body.split("\n\n") if "event: " in block]
    events = [event.removeprefix("event: ") for pair in told for event in pair if event.startswith("event: ")]
    assert [event for event in events if event != "snapshot"] == [
        "log",
        "skipped",
        "skipped",
        "log",
        "log",
        "done",
        "done",
    ]
    assert caplog.text.count("cannot be sent as text/event-stream: UnicodeError: no such character") == 1


class Member:
    """A reader of the fan-out, whose connection fails where it is to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.slow = False
        self.reached = Position("none", 0)
        self.fd = -1
        self.written: list[bytes] = []
        self.woken = 0
        self.fails = fails

    def write(self, data: bytes) -> None:
        if self.fails:
            raise RuntimeError("the transport is unusable")
        self.written.append(data)

    def keep(self, rest: memoryview) -> None:
        raise NotImplementedError

    def wake(self) -> None:
        self.woken += 1
        if self.fails:
            raise RuntimeError("nor can it be woken")

    def finish(self) -> None:
        if self.fails:
            raise RuntimeError("nor finished")


async def test_a_reader_that_cannot_be_written_leaves_its_seat_and_the_others_get_everything() -> None:
    async with Relay([], clock=ManualClock()) as relay:
        job, fanout = relay.registry.admit(), FanOut(relay.bus, heartbeat=PATIENCE)
        members = [Member(), Member(fails=True), Member()]
        groups = [fanout.join_group(member, SSE, "debug", Selection(None), chunked=False) for member in members]
        records = [relay.bus.publish(job, Log(line=f"{number}")) for number in range(2)]
        groups[0].flush()
        whole = b"".join(map(frame, records))
        assert [b"".join(member.written) for member in members] == [whole, b"", whole]
        assert (members[1].woken, list(groups[0].members)) == (1, [members[0], members[2]])
        for member in (members[0], members[2]):
            groups[0].leave(member)


async def test_a_heartbeat_that_fails_for_one_group_reaches_the_others_and_comes_again() -> None:
    def no_heartbeat(*_: object, **__: object) -> bytes:
        raise ValueError("no")

    broken = RecordWire("text/broken", b"", frame, no_heartbeat, b"", False)
    async with Relay([], clock=ManualClock()) as relay:
        fanout = FanOut(relay.bus, heartbeat=PATIENCE)
        members, wires = [Member(), Member()], [broken, SSE]
        groups = [
            fanout.join_group(member, wire, "debug", Selection(None), chunked=False)
            for member, wire in zip(members, wires, strict=True)
        ]
        for _ in range(2):
            fanout._beat()
        assert fanout._timer is not None, "it comes again"
        for group, member in zip(groups, members, strict=True):
            group.leave(member)

    assert [member.written for member in members] == [[], [HEARTBEAT, HEARTBEAT]]


class Stream(OpenStream):
    """An open stream that fails at whatever it is asked to do."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__("127.0.0.1")
        self.fails = fails
        self.done_with: list[str] = []

    def _do(self, what: str) -> None:
        self.done_with.append(what)
        if self.fails:
            raise RuntimeError("no")

    def close(self) -> None:
        self._do("close")

    def wake(self) -> None:
        self._do("wake")

    def cut(self) -> None:
        self._do("cut")


async def test_a_stream_that_cannot_be_ended_or_renewed_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("web.streaming.registry.CLOSE_WITHIN", 0.001)
    monkeypatch.setattr("web.streaming.registry.LEAST_PAUSE", 3_600.0)  # no renewal but those of the test
    streams = StreamRegistry(max_age=-1.0, waits=ClientWaits(10.0))
    some = [Stream(fails=True), Stream(fails=False), Stream(fails=True)]
    for stream in some:
        streams.add(stream)
    streams._expire()
    streams._expire()
    await streams.close()

    assert [stream.done_with for stream in some] == [["wake", "wake", "close", "cut"]] * 3
    for stream in some:
        streams.remove(stream)


async def test_a_doorman_that_dies_is_a_problem_and_goes_round_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, notices, rounds = ManualClock(), list[str](), list[float]()

    def overdue(*_: object) -> list[Any]:
        rounds.append(clock.monotonic())
        if len(rounds) == 2:
            raise ValueError("a connection without an end")
        return []

    monkeypatch.setattr(IdleConnectionReaper, "overdue", overdue)
    relay = Relay([], clock=clock, notify=notices.append)
    runner = AppRunner(create_app(relay), access_log=None)
    async with reap_idle_connections(runner, 4.0, clock=clock):
        await runner.setup()
        await clock.advance(1.0)
        wrong = relay.problems()
        await clock.advance(3.0)
        right = relay.problems()
        await runner.cleanup()

    assert wrong == ["the idle timeout broke off with ValueError: a connection without an end"]
    assert (right, rounds) == ([], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert notices == [f"{wrong[0]}; it is started again in 1 s"]
