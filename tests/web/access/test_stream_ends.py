"""A stream ends with its access, within 5 s: its client is notified before, and is cut off if it reads too little."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from relay.events import Log
from tests.web.access.credentials import bearer
from tests.web.access.house import ALL_WAYS, House, house
from tests.web.access.keys import ANN, BOB, SETTINGS
from tests.web.conftest import without_short_way
from tests.web.raw import request
from web import Access
from web.access.withdrawals import REMEMBERED, Withdrawals
from web.streaming import registry
from web.streaming.keys import TURNS
from web.streaming.patience import ClientWaits
from web.streaming.registry import CUT_AFTER, END_CHECK, EXPIRING_BEFORE, OpenStream, StreamRegistry

CHAT = b'{"model":"scripted","stream":true,"messages":[{"role":"user","content":"a cat"}]}'
RESPONSE = b'{"model":"scripted","stream":true,"input":"a cat"}'
JSON = "Content-Type: application/json"


@pytest.fixture(autouse=True)
def checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after streams every millisecond, not every second. Time itself is moved by the tests: see `moved`."""
    monkeypatch.setattr(registry, "END_CHECK", 0.001)


@asynccontextmanager
async def stream(served: House, line: str, *fields: str, body: bytes = b"") -> AsyncGenerator[asyncio.StreamReader]:
    """A stream whose head and first bytes were read, so that it is open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.door.port, limit=2**26)
    try:
        writer.write(request(f"{line} HTTP/1.1", "Connection: close", *fields, body=body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"\n")
        yield reader
    finally:
        writer.close()


def moved(served: House, ends_in: float) -> None:
    """Let the access of each open stream end in so many seconds."""
    for one in served.door.streams:
        one.access_ends = asyncio.get_running_loop().time() + ends_in


def told(stream: bytes) -> list[str]:
    return re.findall(r"^event: (expiring|denied|bye)$", stream.decode(), re.MULTILINE)


def ending_access(served: House) -> Access:
    return Access(subject="ann", expires=served.guard.now() + 3_600)


async def test_a_client_is_notified_before_the_end_and_at_the_end(take_over: bool) -> None:
    async def authorize(_: object) -> Access | None:
        return ending_access(served)

    async with house(None, authorize=authorize, take_over=take_over) as served:
        job = served.job_of("ann")
        async with stream(served, "GET /v1/events") as reader:
            served.relay.bus.publish(job, Log(line="before"))
            received = await reader.readuntil(b"before")
            assert told(received) == []

            moved(served, EXPIRING_BEFORE - 1)
            received = await reader.readuntil(b"event: expiring\n")
            received += await reader.readline()
            assert b'data: {"expires": "2026-01-01T01:00:00Z"}' in received.replace(b'":"', b'": "')
            served.relay.bus.publish(job, Log(line="between"))
            received = await reader.readuntil(b"between")
            assert told(received) == []

            moved(served, 0)
            received = await reader.read()

    assert told(received) == ["denied"]
    assert b"the access to this stream has expired" in received


async def test_what_is_revoked_is_denied_and_nothing_else_is(take_over: bool) -> None:
    async with house(take_over=take_over) as served:
        job = served.job_of("key:bob")
        async with (
            stream(served, "GET /v1/events", bearer(ANN)) as ann,
            stream(served, "GET /v1/events", "Accept: application/x-ndjson", bearer(ANN)) as lines,
            stream(served, "GET /v1/events", bearer(BOB)) as bob,
        ):
            served.guard.reload(replace(ALL_WAYS, keys=tuple(key for key in ALL_WAYS.keys if key.name != "ann")))

            whole = await ann.read()
            assert (told(whole), b"the access to this stream was withdrawn" in whole) == (["denied"], True)
            assert b"withdrawn" in await lines.read()
            served.relay.bus.publish(job, Log(line="goes on"))
            assert told(await bob.readuntil(b"goes on")) == []
            assert len(served.door.streams) == 1


@pytest.mark.parametrize(
    ("line", "body"), [("POST /v1/chat/completions", CHAT), ("POST /v1/responses", RESPONSE)], ids=["chat", "responses"]
)
async def test_streams_for_other_clients_end_with_an_error_that_they_read(line: str, body: bytes) -> None:
    async with house() as served, stream(served, line, bearer(ANN), JSON, body=body) as reader:
        served.guard.revoke(subject="key:ann")

        assert b"access_denied" in await reader.read()
        assert not any(job.ended for job in served.relay.jobs())


async def test_a_client_that_does_not_read_is_cut_off(take_over: bool) -> None:
    async with house(take_over=take_over) as served:
        job = served.job_of("key:ann")
        async with stream(served, "GET /v1/events", bearer(ANN)) as reader:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            (one,) = served.door.streams
            while one.state != "slow":
                served.relay.bus.publish(job, Log(line="x" * 4_000))
                await asyncio.sleep(0)

            served.guard.revoke(subject="key:ann")
            moved(served, -CUT_AFTER)
            await one.done.wait()

            assert len(served.door.streams) == 0


def test_nothing_is_sent_for_longer_than_five_seconds_after_the_end() -> None:
    assert END_CHECK + CUT_AFTER < 5


class Stream(OpenStream):
    """A stream that notes what becomes of it."""

    def __init__(self, ends_in: float | None, renew: float | None = None) -> None:
        super().__init__("peer", Access(subject="ann", renew=renew))
        self.became: list[str] = []
        if ends_in is not None:
            self.access_ends = asyncio.get_running_loop().time() + ends_in

    def close(self) -> None:
        self.became.append("closed")

    def wake(self) -> None:
        self.became.append("woken")

    def cut(self) -> None:
        self.became.append("cut")


async def test_each_stream_is_woken_or_cut_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "END_CHECK", 3_600)
    streams = StreamRegistry(3_600, ClientWaits(10.0))
    cases = {
        None: [],
        3_600.0: [],
        EXPIRING_BEFORE - 1: ["woken", "woken"],
        -1.0: ["woken", "woken"],
        -CUT_AFTER: ["woken", "cut"],  # a look that is late cuts off no client that had no chance to read why
    }
    found = {ends_in: Stream(ends_in) for ends_in in cases}
    for one in found.values():
        streams.add(one)

    streams._end_accesses()
    streams._end_accesses()

    assert {ends_in: one.became for ends_in, one in found.items()} == cases
    for one in found.values():
        streams.remove(one)
    assert streams._ending_timer is None


async def test_no_timer_is_left_by_a_stream_that_is_removed_as_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "END_CHECK", 3_600)
    streams = StreamRegistry(3_600, ClientWaits(10.0))

    class Gone(Stream):
        def cut(self) -> None:
            streams.remove(self)

    streams.add(Gone(-CUT_AFTER))
    streams._end_accesses()
    streams._end_accesses()

    assert (len(streams), streams._ending_timer, streams._timer) == (0, None, None)


async def test_a_stream_is_renewed_once_its_access_is_to_be_proved_again() -> None:
    streams, now = StreamRegistry(3_600, ClientWaits(10.0)), asyncio.get_running_loop().time()
    for renew, most in ((600.0, 720.0), (None, 4_320.0), (7_200.0, 4_320.0)):
        one = Stream(None, renew)
        streams.add(one)
        assert one.expires <= now + most + 60
        streams.remove(one)


async def test_a_stream_of_a_proxy_says_bye_so_that_the_proxy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LEAST_PAUSE", 0.001)

    async def authorize(_: object) -> Access | None:
        return Access(subject="ann", renew=600)

    max_age = 0.001 * registry.EXPIRY_CHECKS
    async with (
        house(None, authorize=authorize, max_age=max_age) as served,
        stream(served, "GET /v1/events") as reader,
    ):
        for one in served.door.streams:
            one.expires = 0.0

        assert told(await reader.read()) == ["bye"]


async def test_an_access_to_certain_jobs_has_an_end_of_its_own() -> None:
    async with house(SETTINGS) as served:
        job = served.job_of("key:ann")
        link = served.guard.signer.sign_watch(job.id, int(served.guard.now()) + 60)
        async with stream(served, "GET /v1/events", bearer(link)) as reader:
            moved(served, 0)
            assert "denied" in told(await reader.read())


@pytest.mark.parametrize("how", ["revoked", "reloaded", "configured"])
async def test_what_is_withdrawn_while_a_stream_is_being_opened_opens_none(
    how: str, take_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_short_way(monkeypatch)  # on which nothing is awaited meanwhile
    async with house(None if how == "configured" else ALL_WAYS, take_over=take_over) as served:

        async def withdrawn_meanwhile() -> None:
            match how:
                case "revoked":
                    served.guard.revoke(subject="key:ann")
                case "reloaded":
                    keys = tuple(key for key in ALL_WAYS.keys if key.name != "ann")
                    served.guard.reload(replace(ALL_WAYS, keys=keys))
                case _:
                    served.guard.reload(ALL_WAYS)

        served.app[TURNS].wait_turn = withdrawn_meanwhile  # type: ignore[method-assign]
        async with stream(served, "GET /v1/events", bearer(ANN)) as reader:
            assert b"withdrawn" in await reader.read()
            assert len(served.door.streams) == 0


async def test_streams_of_an_open_relay_end_once_access_is_configured(take_over: bool) -> None:
    async with house(None, take_over=take_over) as served, stream(served, "GET /v1/events") as reader:
        served.guard.reload(SETTINGS)

        assert told(await reader.read()) == ["denied"]


def test_so_many_withdrawals_are_remembered_and_an_access_from_before_counts_as_ended() -> None:
    withdrawals, ann = Withdrawals(), Access(subject="ann")
    for _ in range(REMEMBERED):
        withdrawals.add(lambda access: access.subject == "bob")
    assert not withdrawals.ended(ann, 0)
    assert withdrawals.ended(Access(subject="bob"), REMEMBERED - 1)
    assert not withdrawals.ended(Access(subject="bob"), REMEMBERED)

    withdrawals.add(lambda _: False)

    assert [withdrawals.ended(ann, since) for since in (0, 1)] == [True, False]
