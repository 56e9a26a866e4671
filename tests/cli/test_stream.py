"""A relay's stream, read from outside: come back to where it broke off, within bounds, and never told twice.

The relay is a server that sends the very bytes it is given: what a real one sends is tested with `relay tail`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from relay.cli.stream import NOW, START, RelayStream, Remark
from relay.errors import UsageError
from relay.events import Done, Event, Failed, Log, Position
from relay.wire.event_stream import BLOCK_LIMIT
from relay.wire.record_json import stamp
from sinks.sse import frame, notice_frame
from tests.upstreams.stub import Stub, reply

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Waits:
    """A clock on which every wait is over at once, and is known."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> datetime:
        return AT

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def block(offset: int, event: Event | None = None, job: str = "a") -> bytes:
    event = event or Log(line=f"line {offset}")
    return frame(stamp(job, offset, AT, event, Position("e", offset)))


def notice(event: str, offset: int = 0, wait: int | None = None, /, **data: Any) -> bytes:
    return notice_frame(event, data, f"e-{offset}", retry=wait)


def stream(*blocks: bytes, **headers: str) -> bytes:
    return reply(b":\n" + b"".join(blocks), content_type="text/event-stream", **headers)


def cut(*blocks: bytes) -> bytes:
    """A stream that is lost behind *blocks*."""
    return stream(*blocks, content_length="999999")


BUSY = reply('{"title": "x", "status": 503, "detail": "not ready"}', "503 Service Unavailable")
OVER = reply("", "204 No Content")
UP_TO_DATE = block(9, Done(urls=()))


async def told(
    stub: Stub, jobs: Sequence[str] = ("a",), since: str = START
) -> tuple[list[str], list[float], RelayStream]:
    """What is told in words, what is said of it in brackets, the waits between, and the stream itself."""
    clock = Waits()
    stream = RelayStream(stub.url, jobs, since, clock=clock)
    said = [f"({one.text})" if isinstance(one, Remark) else one.event.text async for one in stream.read()]
    return said, clock.waits, stream


def cursors(stub: Stub) -> list[str | None]:
    """What each request says was seen last."""
    lines = [request.decode().split("\r\n") for request in stub.requests]
    return [
        next((line.partition(": ")[2] for line in head if line.lower().startswith("last-event-id:")), None)
        for head in lines
    ]


async def test_it_ends_with_the_last_of_its_jobs() -> None:
    async with Stub(stream(block(1), block(2, Failed(kind="lost", message="x"), "b"), UP_TO_DATE, block(10))) as stub:
        said, waits, stream_ = await told(stub, ["a", "b"])

    assert said == ["line 1", "failed (lost): x", "done"]
    assert (waits, stream_.ends, stream_.all_done) == ([], {"a": "done", "b": "failed"}, False)
    assert stub.paths == ["/v1/events?job=a&job=b"]


async def test_a_lost_connection_is_come_back_to_where_it_broke_off_and_what_has_ended_is_asked_for_no_more() -> None:
    replies = [cut(block(1), block(2, Done(urls=()), "b"), b"event: log\ndata: {"), cut(), stream(block(3), UP_TO_DATE)]
    async with Stub(*replies) as stub:
        said, waits, stream_ = await told(stub, ["a", "b"])

    assert said == [
        "line 1",
        "done",
        "(the connection was lost (it broke off); coming back)",
        "(the connection is back)",
        "(the connection was lost (it broke off); coming back)",
        "(the connection is back)",
        "line 3",
        "done",
    ]
    assert cursors(stub) == [None, "e-2", "e-2"]
    assert stub.paths == ["/v1/events?job=a&job=b", "/v1/events?job=a", "/v1/events?job=a"]
    assert (waits, stream_.all_done) == ([0.5, 0.5], True)


async def test_tries_that_fail_are_twice_as_far_apart_up_to_half_a_minute_and_said_once() -> None:
    tries = 9
    async with Stub(cut(block(1)), *[BUSY] * tries, cut(), stream(UP_TO_DATE)) as stub:
        said, waits, _ = await told(stub)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 0.5]
    assert len([word for word in said if "lost" in word]) == 2
    assert len([word for word in said if "back)" in word and "lost" not in word]) == 2


@pytest.mark.parametrize(
    ("retry", "wait"),
    [(250, 0.25), (0, 0.2), (5_000, 5.0), (999_999_999, 30.0)],
    ids=["", "not at once", "", "bounded"],
)
async def test_it_comes_back_when_the_relay_has_asked_for_it(retry: int, wait: float) -> None:
    bye = notice("bye", 1, retry, reason="the relay is shutting down")
    async with Stub(stream(block(1), bye), stream(UP_TO_DATE)) as stub:
        said, waits, _ = await told(stub)

    assert said == [
        "line 1",
        f"(bye: the relay is shutting down; coming back in {wait:g} s)",
        "(the connection is back)",
        "done",
    ]
    assert (waits, cursors(stub)) == ([wait], [None, "e-1"])


async def test_a_relay_that_is_full_is_asked_again_and_again() -> None:
    busy = reply(notice("busy", 0, 3_000, reason="too many streams are open"), content_type="text/event-stream")
    async with Stub(busy, busy, stream(UP_TO_DATE)) as stub:
        said, waits, _ = await told(stub)

    assert said == [
        "(busy: too many streams are open; coming back in 3 s)",
        "(busy: too many streams are open; coming back in 3 s)",
        "(the connection is back)",
        "done",
    ]
    assert waits == [3.0, 3.0]


async def test_what_cannot_be_told_is_said() -> None:
    jobs = [{"job": "a", "status": "running", "percent": 42, "terminal": None}]
    many = [{"job": f"job_{number}", "status": "queued", "percent": None} for number in range(7)]
    notices = [
        notice("gap", 1, to="e-3", missed=None),
        notice("snapshot", 3, jobs=jobs),
        notice("gap", 1, to="e-3", missed=1_200),
        notice("snapshot", 3, jobs=many),
        notice("skipped", 3, missed=70),
        notice("snapshot", 3, jobs=[]),
    ]
    async with Stub(stream(*notices, UP_TO_DATE)) as stub:
        said, _, _ = await told(stub, since="d-7")

    assert said == [
        "(gap: a part of the story is missing, as the relay does not know the position to resume from)",
        "(snapshot: a running at 42%)",
        "(gap: 1,200 records are missing: they are no longer kept)",
        "(snapshot: job_0 queued, job_1 queued, job_2 queued, job_3 queued, job_4 queued, and 2 more)",
        "(skipped: 70 of the next records are left out, as this client did not read them in time)",
        "(snapshot: no job is known)",
        "done",
    ]
    assert cursors(stub) == ["d-7"]


@pytest.mark.parametrize("kind", ["done", "failed"])
async def test_a_snapshot_in_which_all_jobs_have_ended_is_the_end(kind: str) -> None:
    ended = notice("snapshot", 3, jobs=[{"job": "a", "status": "succeeded", "terminal": kind}])
    async with Stub(stream(ended)) as stub:
        _, waits, stream_ = await told(stub, since="d-7")

    assert (waits, stream_.all_done) == ([], kind == "done")


@pytest.mark.parametrize("kind", ["done", "cancelled"])
async def test_where_nothing_is_left_to_tell_how_the_jobs_ended_is_asked_for(kind: str) -> None:
    state = {"position": "e-9", "jobs": [{"job": "a", "terminal": {"type": kind}}]}
    async with Stub(OVER, reply(msgspec.json.encode(state))) as stub:
        said, waits, stream_ = await told(stub, since="e-9")

    assert (said, waits, stream_.ends, stream_.all_done) == ([], [], {"a": kind}, kind == "done")
    assert b"Accept: application/json" in stub.requests[1]


async def test_from_now_on_is_behind_the_position_that_the_relay_is_at() -> None:
    state = {"position": "e-8", "jobs": [{"job": "a", "terminal": None}]}
    async with Stub(reply(msgspec.json.encode(state)), stream(UP_TO_DATE)) as stub:
        said, _, _ = await told(stub, since=NOW)

    assert (said, cursors(stub)) == (["done"], [None, "e-8"])


async def test_a_job_that_is_forgotten_meanwhile_is_said_and_the_others_go_on() -> None:
    gone = stream(notice_frame("gone", {"job": "a"}, "gone-0", retry=2_000))
    async with Stub(cut(block(1)), gone, stream(block(2, Done(urls=()), "b"))) as stub:
        said, _, stream_ = await told(stub, ["a", "b"])

    assert said[-3:] == [
        "(gone: a is no longer known there, and its end cannot be shown)",
        "(the connection is back)",
        "done",
    ]
    assert (cursors(stub), stub.paths[2]) == ([None, "e-1", "e-1"], "/v1/events?job=b")
    assert (stream_.ends, stream_.all_done) == ({"a": "gone", "b": "done"}, False)


async def test_a_record_that_cannot_be_read_is_left_out_and_said() -> None:
    odd = b'event: log\ndata: {"v":2}\nid: e-1\n\n'
    async with Stub(stream(odd, UP_TO_DATE)) as stub:
        said, _, _ = await told(stub)

    assert said[0].startswith("(a record is left out, as it cannot be read: Object missing required field `job`")
    assert said[1:] == ["done"]


async def test_a_connection_on_which_nothing_comes_for_two_heartbeats_is_lost() -> None:
    async with silent(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRelay-Heartbeat: 0.01\r\n\r\n:\n") as url:
        stream = RelayStream(url, clock=Waits()).read()
        lost, back = await anext(stream), await anext(stream)
        await stream.aclose()

    assert [lost, back] == [
        Remark("the connection was lost (nothing comes any more); coming back"),
        Remark("the connection is back"),
    ]


HTML = reply("<html>", content_type="text/html")
PROBLEM = reply('{"detail": "the relay does not answer to this host name"}', "421 Misdirected Request")
UNKNOWN = stream(notice_frame("gone", {"job": "a"}, "gone-0", retry=2_000))
ADVICE = "; name the address of a relay that runs, such as http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (HTML, " answers with text/html, which is no stream"),
        (PROBLEM, " answers 421: the relay does not answer to this host name"),
        (BUSY, " answers 503: not ready"),
        (reply("", "404 Not Found"), " answers 404"),
        (reply("", "301 Moved Permanently", location="http://127.0.0.1:1/"), " answers 301"),
    ],
)
async def test_what_is_no_relay_is_one_sentence_that_says_what_to_do(answer: bytes, what: str) -> None:
    async with Stub(answer) as stub:
        with pytest.raises(UsageError) as refused:
            await told(stub)

        assert str(refused.value) == f"{stub.url}{what}{ADVICE}"
        assert len(stub.requests) == 1


@pytest.mark.parametrize("answer", [HTML, PROBLEM, reply("", "404 Not Found")])
async def test_an_answer_that_will_not_get_better_ends_it_also_later(answer: bytes) -> None:
    async with Stub(cut(block(1)), answer) as stub:
        with pytest.raises(UsageError, match="answers"):
            await told(stub)


async def test_nobody_there_at_the_very_start_is_an_error() -> None:
    async with Stub(UP_TO_DATE) as stub:
        url = stub.url
    with pytest.raises(UsageError) as refused:
        await told(stub)

    assert str(refused.value) == f"nothing answers at {url} (Connection refused){ADVICE}"


async def test_a_job_that_nobody_knows_is_an_error() -> None:
    async with Stub(UNKNOWN) as stub:
        with pytest.raises(UsageError) as refused:
            await told(stub)

        assert str(refused.value) == f"no job 'a' is known at {stub.url}; GET {stub.url}/v1/jobs lists all"


@pytest.mark.parametrize(
    "endless",
    [b"data: " + b"x" * BLOCK_LIMIT, b"data: x\n" * (BLOCK_LIMIT // 8 + 1)],
    ids=["a line", "a block"],
)
async def test_what_has_no_end_is_an_error(endless: bytes) -> None:
    async with Stub(stream(block(1), endless)) as stub:
        with pytest.raises(UsageError, match="no relay's stream: a block is longer than 1,048,576 bytes"):
            await told(stub)


@pytest.mark.parametrize("state", ["[]", '{"position": "x", "jobs": []}', '{"position": "e-1"}', "\xff", "[" * 9_999])
async def test_a_state_that_is_none_is_an_error(state: str) -> None:
    async with Stub(reply(state)) as stub:
        with pytest.raises(UsageError, match="does not answer as a relay does"):
            await told(stub, since=NOW)


@pytest.mark.parametrize("name", ["gap", "snapshot", "skipped", "bye", "busy", "exchange", "expiring"])
@pytest.mark.parametrize("data", ["", "null", "[1]", '{"jobs":[1,{}],"missed":"x","reason":7}', "{", "[" * 9_999])
async def test_a_notice_may_say_anything(name: str, data: str) -> None:
    odd = f"event: {name}\ndata: {data}\nid: \x1b\n\n".encode()
    async with Stub(stream(odd), stream(UP_TO_DATE)) as stub:
        said, _, stream_ = await told(stub)

    assert said[0].startswith(f"({name}")
    assert (said[-1], stream_.all_done, cursors(stub)) == ("done", True, [None, None])


@asynccontextmanager
async def silent(head: bytes) -> AsyncIterator[str]:
    """A server that sends *head*, and then nothing, and does not close."""

    over: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(done := asyncio.get_running_loop().create_future())
        writer.write(head)
        await reader.read()
        writer.close()
        done.set_result(None)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*over)
