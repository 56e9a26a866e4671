"""A hostile upstream: what it sends is an observation or one typed error, within bounds and without a secret."""

import asyncio
import gzip
import json
import traceback
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.events import Accepted, Exchange, Position
from relay.jobs import JobState, Patience, decide_fetched, decide_listed, evolve
from relay.jobs.observations import Answer, Observation
from relay.testing import ManualClock
from relay.upstreams import Declared, FetchesResults, Submits
from relay.upstreams.declared.declaration import PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.http import transport
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.partial_response import PartialResponse
from relay.wire.record_json import stamp
from tests.upstreams.dialects.test_going_on import DIALECTS, task_of
from tests.upstreams.stub import Stub, reply

CANARY = "canary-7Q/+=token"
SPELLINGS = (CANARY, CANARY.replace("/", "%2f"), CANARY.replace("/", "&#47;"), CANARY.replace("+", "\\u002b"))
PATIENCE = Patience()

INPUTS: dict[str, dict[str, Any]] = {
    "comfyui": {"prompt": {"1": {}}},
    "fal": {"model": "fal-ai/fast-sdxl", "prompt": "a"},
    "luma": {"model": "ray-2", "prompt": "a"},
    "new-api": {"model": "m", "prompt": "a"},
    "replicate": {"version": "v", "input": {}},
    "veo": {"model": "veo-3.0-generate-001", "prompt": "a"},
}

# Every name that a dialect reads, and what the worst of servers could put there.
NAMES = (
    *("id", "task_id", "prompt_id", "request_id", "name", "status", "state", "task_status", "progress", "progress_pct"),
    *("data", "items", "cursor", "output", "outputs", "videos", "images", "url", "urls", "video", "file", "file_id"),
    *("error", "message", "code", "detail", "failure", "failureCode", "failure_reason", "fail_reason", "base_resp"),
    *("status_code", "status_msg", "task_result", "task_status_msg", "done", "response", "metadata", "logs", "metrics"),
    *("queue_position", "queue_running", "queue_pending", "downloadable_url", "kind", "reason_str", "error_reason"),
    *("assets", "download_url", "eta", "created_at", "encodings", "expires_at", "generatedSamples", "uri", "result"),
    *("progress_pos_in_queue", "estimated_queue_wait_time", "messages", "status_str", "filename", "type", "has_more"),
)
WORDS = (
    *("succeeded", "SUCCESS", "succeed", "completed", "COMPLETED", "done", "failed", "FAIL", "error", "cancelled"),
    *("running", "IN_PROGRESS", "processing", "dreaming", "queued", "NOT_START", "sora_draft", "sora_error", "Success"),
    *("", " ", "a", "t", "\x00", "\x1b[2J", "\u202e", "\ud83d", "\u2028", "x" * 5_000, "NaN", "1e999", "42%", "57,5"),
    *("https://v.example/a.mp4", "https://u:p@v/a", "javascript:1", "//v/a", "/a", "https://[", "2026-01-01", "-1"),
    *SPELLINGS,
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**400, 2**63, 1e308]),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
keys = st.one_of(st.sampled_from(NAMES), st.sampled_from(["t", "a", CANARY]), st.text(max_size=3))
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=6)),
    max_leaves=30,
)


def likely(dialect: str, value: Any) -> Any:
    """*value* where the dialect looks for it, so that it is not all passed over as something else."""
    item = {"id": "a", "task_id": "a", "status": "running", **(value if isinstance(value, dict) else {"status": value})}
    match dialect:
        case "sora" | "declared list":
            return [item, value]
        case "comfyui":
            return {"queue_running": [value], "queue_pending": [[value, "a", value]], "a": value}
        case "kling" | "new-api":
            return {"code": 0, "data": item}
        case _:
            return item


def made(dialect: str, url: str) -> Any:
    """An adapter of *dialect* whose token is the canary, with all that it can do."""
    if not dialect.startswith("declared"):
        upstream = DIALECTS[dialect](url)
        return type(upstream)(url, CANARY)
    items: dict[str, Any] = {"items": "@", "id": "id"} if dialect == "declared list" else {}
    path = "tasks" if items else "tasks/{task}"
    fields = dict.fromkeys(("status", "error", "code", "queue_position", "eta", "expires", "progress"), "")
    expressions: dict[str, Any] = {name: name for name in fields} | {"log": "logs", "urls": "output", "scale": 1}
    poll = PollRequest(path=path, **items, **expressions)
    result = ResultRequest(path=f"results/{path}", **items, urls="url || @", error="error")
    submit = SubmitRequest(path="tasks", id="id", error="error")
    return Declared(url, CANARY, poll=poll, result=result, submit=submit)


def calls(dialect: str, upstream: Any) -> list[Callable[[], Awaitable[object]]]:
    task = task_of(dialect)
    found: list[Callable[[], Awaitable[object]]] = [lambda: upstream.observe([task, "b"])]
    if isinstance(upstream, FetchesResults):
        found.append(lambda: upstream.fetch_result([task]))
    if isinstance(upstream, Submits):
        found.append(lambda: upstream.submit(INPUTS.get(dialect, {"prompt": "a"})))
    return found


def check(said: object) -> None:
    """That what an adapter returned or raised is typed, bounded, free of secrets, and can be told as records."""
    told = [said] if not isinstance(said, Answer) else [*said.tasks.values()]
    for one in told:
        assert isinstance(one, Observation | UpstreamError | str), one
        words = repr(vars(one)) if isinstance(one, UpstreamError) else repr(one)
        assert "canary" not in words, words
        if isinstance(one, UpstreamError):
            assert len(one.message) < 2_000
            assert "Traceback" not in one.message
        if isinstance(one, Observation):
            assert one.percent is None or 0 <= one.percent <= 100
            _tell(one)


def _tell(seen: Observation) -> None:
    state = JobState()
    for event in (Accepted(upstream="u", task="a"), *decide_listed(state, seen, PATIENCE, two_step=True).events):
        record = stamp("job_1", state.seq + 1, datetime(2026, 1, 1, tzinfo=UTC), event, Position("e", state.seq + 1))
        assert msgspec.json.decode(msgspec.json.encode(record.event))
        state = evolve(state, record)
    decide_fetched(state, seen, PATIENCE)


async def outcome(request: Awaitable[object]) -> object:
    try:
        return await request
    except UpstreamError as caught:
        error = caught
    assert "canary" not in "".join(traceback.format_exception(error))
    return error


class Wire:
    """Stands for the transport: every request is answered with the same."""

    host = "hostile.example"

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._status, self._headers, self._body = status, headers, body

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ask(self, _method: str, _url: str, _headers: object, _body: object, arriving: PartialResponse) -> None:
        arriving.status, arriving.headers, arriving.content = self._status, self._headers, self._body


statuses = st.sampled_from([200, 200, 200, 201, 202, 204, 206, 400, 404, 409, 422, 429, 500, 599])
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Link", "Location", "Content-Type", "Set-Cookie", "X-Echo"]),
    st.one_of(st.sampled_from(["5", "-1", "9" * 50, "soon", '<?a=1>; rel="next"', *SPELLINGS]), st.text(max_size=20)),
    max_size=3,
)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=statuses, head=headers, value=documents, fits=st.booleans())
def test_any_document_is_an_observation_or_a_typed_error_without_a_secret(
    dialect: str, status: int, head: dict[str, str], value: Any, fits: bool
) -> None:
    async def ask() -> None:
        upstream = made(dialect, "http://hostile.example")
        heard: list[Exchange] = []
        upstream.on_exchange = heard.append
        document = likely(dialect, value) if fits else value
        upstream._http._transport = Wire(status, head, json.dumps(document).encode("utf-8", "surrogatepass"))
        for call in calls(dialect, upstream):
            check(await outcome(call()))
        assert "canary" not in repr(heard)

    asyncio.run(ask())


DEEP = b"[" * 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "deep": DEEP,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a huge number": b'{"id": "a", "status": "running", "progress": ' + b"9" * 100_000 + b"}",
    "a huge exponent": b'{"id": "a", "status": "running", "progress": 1e' + b"9" * 4_000 + b"}",
    "control characters": b'{"id": "a", "status": "run\x00\x1b[2Jning"}',
    "latin-1": b'{"id": "a", "status": "\xe9\xff"}',
    "utf-16": '{"id": "a", "status": "running"}'.encode("utf-16"),
    "utf-32": '{"id": "a"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"id": "a", "status": "running"}',
    "lone surrogates": b'{"id": "a", "status": "\\ud800", "error": "\\udfff"}',
    "the same key often": b"{" + b",".join([b'"status": "failed"'] * 20_000) + b"}",
    "many keys": json.dumps({f"k{n}": n for n in range(20_000)}).encode(),
    "many items": json.dumps([{"id": "a", "status": "running"}] * 8_000).encode(),
    "html": b"<!DOCTYPE html><html>" + CANARY.encode() * 1_000,
    "nul": b"\0" * 10_000,
    "too long": b'"' + b"a" * 2_000_000,
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_any_body_is_an_observation_or_a_typed_error(dialect: str) -> None:
    for body in BODIES.values():
        async with Stub(reply(body)) as stub, made(dialect, stub.url) as upstream:
            check(await outcome(upstream.observe([task_of(dialect)])))


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"\r\n" + sent + b"0\r\n" + trailer + b"\r\n"


RAW: dict[str, bytes] = {
    "a huge header": reply("[]", x_long="x" * 100_000),
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n[]",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000,
    "an endless status line": b"HTTP/1.1 200 " + b"y" * 2_000_000,
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n[]",
    "a header with a NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n[]",
    "a name with a space": b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 2\r\n\r\n[]",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n[]",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n[]",
    "a length too long": reply("[]", content_length="99999999999999999999"),
    "a length too short": reply('[{"id": "a"}]', content_length="2"),
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + chunked(b"[]")[17:],
    "a chunk of a wrong size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n[]",
    "a long chunk extension": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * 500_000,
    "trailers": chunked(b"[]", trailer=b"X-Echo: " + CANARY.encode() + b"\r\n"),
    "many trailers": chunked(b"[]", trailer=b"X: y\r\n" * 50_000),
    "many small chunks": chunked(*[b" "] * 20_000, b"[]"),
    "a wrong encoding": reply("[]", content_encoding="br"),
    "an unknown encoding": reply("[]", content_encoding="nonsense"),
    "two encodings": reply(gzip.compress(gzip.compress(b"[]")), content_encoding="gzip, gzip"),
    "a torn gzip": reply(gzip.compress(b"[]" * 1_000)[:30], content_encoding="gzip"),
    "a deflate bomb": reply(zlib.compress(b"[" + b" " * 50_000_000, 9), content_encoding="deflate"),
    "a gzip bomb": reply(gzip.compress(b"[" + b" " * 50_000_000, 9), content_encoding="gzip"),
    "a flood of 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000 + reply("[]"),
    "a flood of 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5_000 + reply("[]"),
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "a redirect to itself": reply("", "302 Found", location="/"),
    "a redirect elsewhere": reply("", "307 Temporary Redirect", location="http://169.254.169.254/" + CANARY),
    "a status of none": b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n",
    "a status too large": b"HTTP/1.1 99999 No\r\n\r\n",
    "another version": b"HTTP/0.9 200 OK\r\n\r\n[]",
    "http/2": b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64",
    "tls": b"\x15\x03\x01\x00\x02\x02\x28",
    "two answers": reply("[]") + reply('[{"id": "b"}]'),
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n[]",
    "obsolete folding": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n[]",
    "a charset that is none": reply("[]", content_type="application/json; charset=nonsense"),
    "cookies": reply("[]", set_cookie="a=" + CANARY),
    "a length and nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "latin-1 in a header": b"HTTP/1.1 200 OK\r\nX: \xe9\xff\r\nContent-Length: 2\r\n\r\n[]",
}


@pytest.fixture(params=["quick", "session"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "session":
        monkeypatch.setattr(transport, "quick_gets", lambda *_: None)


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("case", RAW)
async def test_any_answer_on_the_wire_is_read_or_a_typed_error_within_bounded_memory(
    case: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Exchange] = []
    async with (
        Stub(RAW[case]) as stub,
        HttpClient(stub.url, CANARY, upstream="test", timeout=5.0, clock=ManualClock()) as http,
    ):
        tracemalloc.start()
        try:
            error = await outcome(http.request("GET", "jobs", on_exchange=heard.append))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * 1024 * 1024, f"{peak:,}"
    assert "canary" not in repr(heard) + repr(error)
    assert (caplog.text, capfd.readouterr().err) == ("", "")
    if isinstance(error, UpstreamError):
        assert error.__context__ is None
        assert len(error.message) < 500


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 O"])
async def test_an_answer_that_never_ends_is_a_timeout(sent: bytes) -> None:
    """It drips: a byte, or another 1xx, again and again; the whole exchange has one time limit."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)
            while not over.is_set():
                writer.write(sent if b"100" in sent else b" ")
                await writer.drain()
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    over = asyncio.Event()
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with HttpClient(url, CANARY, upstream="test", timeout=0.2) as http:
            error = await outcome(http.request("GET", "jobs"))
        over.set()
    assert isinstance(error, UpstreamError)
    assert error.kind in ("timeout", "malformed"), "as its time is over, or too much has come"
