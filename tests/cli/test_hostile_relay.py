"""What `relay tail` does with a server that is no relay, or a bad one: no traceback, bounded memory, and one line that
says what to do."""

import asyncio
import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.cli.bars import JOBS_KEPT, Bars
from relay.cli.received import ReceivedRecord, read_received
from relay.cli.stream import START, RelayStream, Remark
from relay.cli.stream_notices import describe_notice
from relay.errors import UsageError
from relay.text import LINE_LIMIT
from tests.cli.test_stream import Waits, block, notice, stream
from tests.upstreams.stub import Stub, reply

SAYS_AT_MOST = 2_000
"""Characters of a line that `relay tail` says by itself."""


class EnoughError(Exception):
    """It would come back once more, which is right, and goes on for ever."""


class FewWaits(Waits):
    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.waits) == 4:
            raise EnoughError


async def heard(stub: Stub, *jobs: str) -> tuple[list[ReceivedRecord | Remark], str]:
    """What is told, and the line that ends it, if one does."""
    told: list[ReceivedRecord | Remark] = []
    try:
        async for one in RelayStream(stub.url, jobs, START, clock=FewWaits()).read():
            told.append(one)
    except UsageError as error:
        return told, str(error)
    except EnoughError:
        pass
    return told, ""


def check(told: list[ReceivedRecord | Remark], line: str) -> None:
    """Nothing acts on a terminal, and no line is without end."""
    assert len(line) <= SAYS_AT_MOST
    for one in told:
        if isinstance(one, Remark):
            assert len(one.text) <= SAYS_AT_MOST
        else:
            assert len(one.event.text) <= LINE_LIMIT
            assert one.event.text.isprintable() or not one.event.text.isascii()
            assert one.json.isascii()
            assert b"\n" not in one.json
            assert b"\x1b" not in one.json
            assert isinstance(json.loads(one.json), dict)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.just("x" * 5_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
RECORD = {
    "v": 1,
    "job": "a",
    "seq": 1,
    "at": "2026-01-01T00:00:00Z",
    "type": "log",
    "level": "info",
    "text": "a line",
    "percent": None,
}
odd_fields = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(RECORD, anything),
        "at": st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1970", "", 5]),
        "text": st.sampled_from(["\x1b[2J", "\u202e", "\x00", "\ud800", "a\nb", "x" * 9_000]),
        "more": anything,
    },
)
records = odd_fields.map(lambda odd: json.dumps({**RECORD, **odd}).encode())
notices = st.tuples(
    st.sampled_from([b"gap", b"snapshot", b"skipped", b"gone", b"busy", b"bye", b"exchange", b"error", b"", b"\xff"]),
    st.fixed_dictionaries(
        {},
        optional={
            "job": anything,
            "missed": anything | st.just(10**4_000),
            "reason": anything,
            "jobs": anything | st.lists(odd_fields, max_size=3),
            "from": anything,
        },
    ).map(lambda data: json.dumps(data).encode()),
)
lines = st.one_of(
    records.map(lambda record: b"data: " + record + b"\n"),
    notices.map(lambda one: b"event: " + one[0] + b"\ndata: " + one[1] + b"\n"),
    st.sampled_from(
        [
            b"\n",
            b"\n",
            b":\n",
            b"\r",
            b"retry: 0\n",
            b"retry: 999999999\n",
            b"retry: -1\n",
            b"id\n",
            b"id: e-" + b"9" * 18 + b"\n",
            b"id: e-" + b"9" * 400 + b"\n",
            b"id: \x00\n",
            b"id: \xff-1\n",
            b"data\n",
            b"data: {\n",
            b"data: " + b"[" * 3_000 + b"\n",
            b'data: {"a":' * 900 + b"1" + b"}" * 900 + b"\n",
            b"event: log\n",
            b"\xef\xbb\xbf",
            b"\x1f\x8b",
        ]
    ),
    st.binary(max_size=20),
)
heads = st.fixed_dictionaries(
    {"content_type": st.sampled_from(["text/event-stream"] * 6 + ["", "\xff", "text/html", "application/json;;"])},
    optional={
        "content_length": st.sampled_from(["1", "99999", "-1", "x", "9" * 30]),
        "relay_heartbeat": st.sampled_from(["nan", "-1", "1e-300", "inf", "x", "9" * 400, "0"]),
        "content_encoding": st.sampled_from(["gzip", "deflate", "br", "identity", "x"]),
        "transfer_encoding": st.sampled_from(["chunked", "gzip"]),
        "location": st.sampled_from(["http://127.0.0.1:1/", "file:///etc/passwd", "//", "\xff", ""]),
        "set_cookie": st.just("a=b; Domain=.; Max-Age=x"),
        "long": st.just("x" * 9_000),
    },
)
statuses = st.sampled_from(
    ["200 OK"] * 12
    + ["204 No Content", "101 Switching Protocols", "302 Found", "404 Not Found", "500 x", "503 x", "999 x", "x"]
)
replies = st.builds(
    lambda status, head, body: reply(b"".join(body), status, **head), statuses, heads, st.lists(lines, max_size=8)
) | st.binary(max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answers=st.lists(replies, min_size=1, max_size=4), jobs=st.sampled_from([(), ("a",), ("a", "b")]))
async def test_whatever_a_server_sends_is_told_in_bounded_lines_or_ends_in_one(
    answers: list[bytes], jobs: tuple[str, ...]
) -> None:
    async with Stub(*answers) as stub:
        told, line = await heard(stub, *jobs)

    check(told, line)
    advice = (_ADVICE, _PRESENT, _PRESENT_OTHER, "lists all")
    assert line == "" or line.endswith(advice) or "is no relay's stream" in line


_ADVICE = "name the address of a relay that runs, such as http://127.0.0.1:8080"
_PRESENT = "present what it asks for with --token, --basic or --header"
_PRESENT_OTHER = "present another secret with --token, --basic or --header"


LONG = "j" * 100_000
NESTED = b'{"v":1,"job":"a","seq":1,"at":"2026-01-01T00:00:00Z","type":"log","level":"info","text":"a",  "x":%b}'


async def test_a_job_that_is_gone_is_named_in_a_bounded_line() -> None:
    async with Stub(stream(notice("gone", job=LONG))) as stub:
        told, line = await heard(stub, "a")

    check(told, line)
    assert "no job" in line


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 5_000, 100_000])
async def test_a_record_that_nests_deeply_is_told_or_left_out(depth: int) -> None:
    record = NESTED % (b"[" * depth + b"]" * depth)
    async with Stub(stream(b"data: " + record + b"\n\n", block(2))) as stub:
        told, line = await heard(stub)

    assert line == ""
    assert any(isinstance(one, ReceivedRecord) and one.event.text == "line 2" for one in told)


@pytest.mark.parametrize("missed", [10**4_000, -(10**4_000), 2**64], ids=["huge", "huge below 0", "large"])
def test_a_figure_without_end_is_not_told_as_it_is(missed: int) -> None:
    for event in ("gap", "skipped"):
        assert len(describe_notice(event, {"missed": missed})) < 200


@asynccontextmanager
async def endless(head: bytes, piece: bytes, most: int) -> AsyncIterator[str]:
    """The address of a server that sends *piece* so many times, or until its client leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            for _ in range(most):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
BOMB = gzip.compress(b":" * 50_000_000)


@pytest.mark.parametrize(
    ("head", "piece", "most", "line"),
    [
        (HEAD + b"\r\n", b"x" * 65_536, 1_000, "this is no relay's stream: a block is longer than 1,048,576 bytes"),
        (HEAD + b"\r\n", b"data: " + b"x" * 65_536 + b"\n", 1_000, "a block is longer than 1,048,576 bytes"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n", BOMB, 1, "a block is longer than 1,048,576 bytes"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 5_000 + b"\r\n", 10_000, _ADVICE),
        (b"HTTP/1.1 ", b"1" * 65_536, 1_000, _ADVICE),
    ],
    ids=["a line", "a block", "a gzip bomb", "a head", "a status"],
)
async def test_what_has_no_end_ends_in_a_line_and_holds_no_memory(
    head: bytes, piece: bytes, most: int, line: str
) -> None:
    async with endless(head, piece, most) as address:
        tracemalloc.start()
        try:
            with pytest.raises(UsageError, match=line):
                async for _ in RelayStream(address, (), START, clock=FewWaits()).read():
                    pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 16 * 1024 * 1024


async def test_bars_of_jobs_without_number_hold_no_memory() -> None:
    async with Bars(io.StringIO()) as bars:
        for number in range(2 * JOBS_KEPT):
            await bars.tell(read_received(json.dumps({**RECORD, "job": f"job_{number}"}).encode()))
        assert len(bars._running) == JOBS_KEPT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply("", "302 Found", location="http://127.0.0.1:1/"), "answers 302"),
        (reply("\x1b[2J", "500 x", content_type="text/html"), "answers 500"),
        (stream(b"data: " + b"x" * 2_000_000), "this is no relay's stream"),
        (b"\x16\x03\x01nonsense\r\n\r\n", "nothing answers at"),
    ],
    ids=["a redirect", "a failure", "a line without end", "no HTTP"],
)
async def test_relay_tail_ends_in_one_line_and_status_2(answer: bytes, said: str) -> None:
    async with Stub(answer) as stub:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay",
            "tail",
            stub.url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()

    assert (process.returncode, out) == (2, b"")
    (line,) = err.decode().splitlines()
    assert said in line
    assert line.isprintable()
