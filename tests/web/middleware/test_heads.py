"""The head of a request: how long a connection may take to send one, and how long its first line may be."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application, AppRunner, Request, Response, TCPSite

from relay import Relay
from relay.cli.serving import serving
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, story
from web import create_app
from web.middleware.idle_timeout import REQUEST_WITHIN, IdleConnectionReaper, StalledConnections, reap_idle_connections

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LATEST = REQUEST_WITHIN * 1.25
"""The doorman goes round four times in that time, so who comes just behind him has a quarter more."""


@asynccontextmanager
async def watched(clock: ManualClock, app: Application) -> AsyncGenerator[int]:
    """The port of *app*, with a doorman whose time stands still until *clock* is moved."""
    runner = AppRunner(app, access_log=None)
    async with reap_idle_connections(runner, clock=clock):
        await runner.setup()
        await TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def connected(port: int, answers: int) -> tuple[StreamReader, StreamWriter]:
    """A connection that has asked, and been answered, so many times."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(answers):
        writer.write(HEAD)
        assert await answer(reader) == 200
    return reader, writer


async def answer(reader: StreamReader) -> int:
    """The status of the next answer, all of which is read."""
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    (length,) = (int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(status.split()[1])


async def drip(writer: StreamWriter, clock: ManualClock, seconds: int) -> bytes:
    """Send a byte of a head each second; return the rest of it."""
    for number in range(seconds):
        writer.write(HEAD[number : number + 1])
        await clock.advance(1)
    return HEAD[seconds:]


@pytest.mark.parametrize("answers", [0, 1, 2], ids=["first", "second", "third"])
async def test_a_head_that_comes_a_byte_at_a_time_is_cut_off_in_time(answers: int) -> None:
    clock = ManualClock()
    async with watched(clock, create_app(Relay([], clock=clock))) as port:
        _, other = await connected(port, 1)
        reader, writer = await connected(port, answers)

        rest = await drip(writer, clock, round(LATEST + 0.5))

        assert rest
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        other.close()


@pytest.mark.parametrize("answers", [0, 1, 2], ids=["first", "second", "third"])
async def test_a_head_that_is_whole_in_time_is_answered_however_slowly_it_came(answers: int) -> None:
    clock = ManualClock()
    async with watched(clock, create_app(Relay([], clock=clock))) as port:
        reader, writer = await connected(port, answers)

        writer.write(await drip(writer, clock, round(REQUEST_WITHIN - 1)))

        assert await answer(reader) == 200
        writer.close()


async def test_who_waits_long_for_an_answer_or_takes_it_slowly_is_left_alone() -> None:
    clock, may_answer, asked = ManualClock(), asyncio.Event(), asyncio.Event()
    large = b"x" * 16 * 1024 * 1024

    async def slowly(_: Request) -> Response:
        asked.set()
        await may_answer.wait()
        return Response(body=large)

    app = Application()
    app.router.add_get("/healthz", slowly)
    async with watched(clock, app) as port:
        reader, writer = await connected(port, 0)
        writer.write(HEAD)
        await asked.wait()
        await clock.advance(10 * REQUEST_WITHIN)
        may_answer.set()
        await reader.readuntil(b"\r\n\r\n")
        await clock.advance(10 * REQUEST_WITHIN)

        assert await reader.readexactly(len(large)) == large
        writer.close()


class Connection(asyncio.Transport):
    """One whose kernel has taken all."""

    def get_write_buffer_size(self) -> int:
        return 0


async def test_silence_counts_from_the_end_of_the_last_answer() -> None:
    door, connection, others = IdleConnectionReaper(10), Connection(), Connection()
    answered = asyncio.Event()

    assert door.overdue([connection], 0) == []
    assert door.overdue([connection, others], 9) == []
    task = asyncio.create_task(answered.wait())
    door.request_started(connection, task)
    assert door.overdue([connection, others], 100) == [others]
    answered.set()
    await task
    assert door.overdue([connection], 101) == []
    assert door.overdue([connection], 110) == []
    assert door.overdue([connection], 111) == [connection]


class Answering(asyncio.Transport):
    """One that has so much left to be taken."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def get_write_buffer_size(self) -> int:
        return self.left


def test_an_answer_of_which_nothing_is_taken_is_given_up_in_time() -> None:
    stalled, still, moving, idle = StalledConnections(120, 1_000), Answering(100), Answering(100), Answering(0)

    for now in range(0, 120, 10):
        assert stalled.overdue([still, moving, idle], now) == []
        moving.left -= 1
    assert stalled.overdue([still, moving, idle], 120) == [still]


def test_of_answers_of_which_nothing_is_taken_the_largest_give_way() -> None:
    stalled = StalledConnections(120, 1_000)
    small, middle, large, new = Answering(10), Answering(900), Answering(1_500), Answering(0)
    everybody = [small, middle, large, new]

    assert stalled.overdue(everybody, 0) == []
    new.left = 5_000
    assert stalled.overdue(everybody, 1) == [large]
    assert stalled.overdue([small, middle, new], 2) == [new]
    assert stalled.overdue([small, middle], 3) == []


@pytest.mark.parametrize(("jobs", "status"), [(1_000, 200), (1_001, 413), (10_001, 413)])
async def test_a_stream_names_a_thousand_jobs_and_more_are_refused_in_a_sentence(jobs: int, status: int) -> None:
    clock = ManualClock()
    journal = MemoryJournal(Retention(records=2_000))
    relay = Relay([OneStep(story({"t": RUNNING}))], clock=clock, journal=journal, max_running=1_000)
    async with serving(create_app(relay), "127.0.0.1", 0) as address, ClientSession() as client:
        known = [relay.registry.admit().id for _ in range(1_000)]
        ids = [*known, *(f"job_{number:016x}" for number in range(jobs - len(known)))]
        async with client.get(f"{address}/v1/events?{'&'.join(f'job={id}' for id in ids)}") as response:
            assert response.status == status
            if status == 200:
                assert await response.content.readline() == b":\n"
            else:
                assert response.content_type == "application/problem+json"
                assert (await response.json())["detail"] == (
                    "a stream names at most 1,000 jobs; leave out `job` for all"
                )
