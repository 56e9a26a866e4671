"""Whatever comes to the door: no answer is a 500, nothing is logged as a fault, and no job's stream stops for it."""

import asyncio
import json
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from relay import Relay
from relay.events import Log
from relay.jobs import Job
from relay.testing import ManualClock
from relay.webhooks import WebhookKeys, Webhooks
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.raw import Door, door, read_answer, request

SENT_AT_ONCE: Final = 12
"""Requests of one example: as many as there is a relay for."""

JOB: Final = "job_0"
HOOK_SECRET: Final = "a secret of the hook"
WEBHOOKS: Final = Webhooks("https://relay.example", {"scripted": WebhookKeys(lambda: HOOK_SECRET)})


class Sent(Struct, frozen=True):
    """What one client does: it writes these pieces, each of which the server may see by itself, and leaves."""

    pieces: tuple[bytes, ...]
    aborts: bool


odd_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
odd_bytes = odd_text.map(lambda text: text.encode("latin-1"))
escaped = st.binary(max_size=6).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw))
word = st.sampled_from([JOB, "job_x", "a", "..", ".", "", "%2e%2e", "%00", "%ff", "%2f", "{job}", "a" * 300, "é"])
part = st.one_of(word, word, escaped, odd_text)

routes = st.sampled_from(
    [
        "/",
        "/v1/jobs",
        "/v1/jobs/{}",
        "/v1/jobs/{}/events",
        "/v1/jobs/{}/cancel",
        "/v1/events",
        "/v1/webhooks/scripted/{}/{}",
        str(WEBHOOKS.url("scripted", JOB)).removeprefix("https://relay.example"),
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/videos",
        "/v1/videos/{}",
        "/v1/videos/{}/content",
        "/v1/video/generations",
        "/v1/video/generations/{}",
        "/v1/responses",
        "/v1/responses/{}",
        "/v1/responses/{}/cancel",
        "/healthz",
        "/readyz",
        "/metrics",
        "/static/{}",
        "/static/relay.js",
        "/{}",
        "*",
        "//{}",
        "http://localhost/v1/jobs/{}",
        "http://{}/healthz",
        "{}",
    ]
)
query = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "job",
                "level",
                "last_event_id",
                "lastEventId",
                "Last-Event-ID",
                "debug",
                "ticket",
                "",
                "stream",
                "starting_after",
                "limit",
                "after",
                "order",
                "variant",
            ]
        ),
        st.one_of(
            part,
            st.sampled_from(["info", "error", "true", "1", "7f3a-42", "unknown-0", f"a-{'9' * 30}", "-1", "a-0x1"]),
        ),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@st.composite
def targets(draw: st.DrawFn) -> str:
    route: str = draw(routes)
    path = "".join(piece + draw(part) for piece in route.split("{}")[:-1]) + route.split("{}")[-1]
    return draw(
        st.sampled_from(["", "?", "#"]).flatmap(
            lambda mark: query.map(lambda q: path + mark + q) if mark else st.just(path)
        )
    )


names = st.sampled_from(
    [
        "Accept",
        "Accept-Encoding",
        "Authorization",
        "Connection",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Expect",
        "Host",
        "Idempotency-Key",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "If-Unmodified-Since",
        "Last-Event-ID",
        "Origin",
        "Range",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Site",
        "Sec-WebSocket-Key1",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Forwarded-For",
        "X-Relay-Level",
        "x-stainless-retry-count",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ]
)
values = st.one_of(
    odd_text,
    st.sampled_from(
        [
            "",
            "*",
            '"',
            "0",
            "-1",
            "9" * 400,
            "application/json",
            "application/json; charset=utf-16",
            "application/x-ndjson;q=1",
            "application/json;q=x, text/*;q=0",
            "text/event-stream",
            "multipart/form-data; boundary=",
            "100-continue",
            "chunked",
            "gzip, chunked",
            "gzip",
            "br",
            "identity",
            "close",
            "keep-alive, Upgrade",
            "websocket",
            "h2c",
            "bytes=0-0",
            "bytes=-0",
            "bytes=5-1,7-",
            f"bytes={'9' * 5_000}-",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Foo 0000 99:99:99 -9999",
            'W/"a", "b',
            "localhost.",
            "[::1]",
            "[::",
            "null",
            "http://localhost",
            "cross-site",
            "navigate",
            "7f3a-42",
            "caf\xe9",
            "\x00",
            "\x7f",
            "k" * 255,
            "k" * 8_300,
        ]
    ),
)
fields = st.lists(st.builds("{}: {}".format, st.one_of(names, names, names, odd_text), values), max_size=4)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
jobs = st.fixed_dictionaries(
    {},
    optional={
        "upstream": st.sampled_from(["scripted", "scripted", "other"]) | json_values,
        "task": st.sampled_from(["t", "task_1"]) | json_values,
        "input": st.dictionaries(st.text(max_size=4), json_values, max_size=3) | json_values,
        "more": json_values,
    },
)
parts = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "input_text"]), "text": st.text(max_size=8)}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": json_values})}),
    json_values,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "user", "system"]) | json_values},
    optional={"content": st.text(max_size=8) | st.lists(parts, max_size=3) | json_values},
)
prompts = st.fixed_dictionaries(
    {"model": st.sampled_from(["scripted", "scripted", "other"]) | json_values},
    optional={
        "messages": st.lists(messages, max_size=3) | json_values,
        "prompt": st.text(max_size=8) | json_values,
        "input": st.text(max_size=8) | st.lists(messages, max_size=3) | json_values,
        "stream": st.booleans() | json_values,
        "background": st.booleans() | json_values,
        "stream_options": st.just({"include_usage": True}) | json_values,
        "seconds": st.sampled_from(["4", 4]) | json_values,
        "size": st.text(max_size=8) | json_values,
        "user": st.text(max_size=8),
        "metadata": st.dictionaries(st.sampled_from(["job", "a"]), json_values, max_size=2) | json_values,
        "n": json_values,
    },
)
bodies = st.one_of(
    prompts.map(lambda prompt: json.dumps(prompt).encode()),
    prompts.map(lambda prompt: json.dumps(prompt, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    jobs.map(lambda job: json.dumps(job).encode()),
    jobs.map(lambda job: json.dumps(job, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    jobs.map(lambda job: b"\xef\xbb\xbf" + json.dumps(job).encode()),
    jobs.map(lambda job: json.dumps(job).encode("utf-16")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.integers(1, 3_000).map(lambda deep: b"[" * deep),
    st.just(b'{"upstream":"scripted","input":{"a":1,"a":2}}'),
)


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, which is more or less one."""
    method = draw(
        st.sampled_from(
            ["GET"] * 4 + ["POST"] * 6 + ["HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", "PRI"]
        )
        | odd_text
    )
    version = draw(st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/", ""]))
    host = draw(st.sampled_from(["localhost"] * 6 + [None, "", "\xff", "evil.example"]))
    given = draw(fields)
    if draw(st.booleans()):
        given = ["Content-Type: application/json", *given]
    head = request(f"{method} {draw(targets())} {version}".encode().decode("latin-1"), *given, host=host)
    body: bytes = draw(bodies)
    match draw(st.sampled_from(["none", "length", "length", "length", "short", "long", "chunked", "broken", "raw"])):
        case "length":
            return _with(head, f"Content-Length: {len(body)}") + body
        case "short":
            return _with(head, f"Content-Length: {len(body) // 2}") + body
        case "long":
            return _with(head, f"Content-Length: {len(body) + 10}") + body
        case "chunked":
            return _with(head, "Transfer-Encoding: chunked") + chunked(body, draw(st.integers(1, 50)))
        case "broken":
            return _with(head, "Transfer-Encoding: chunked") + chunked(body, 7)[:-5] + draw(odd_bytes)
        case "raw":
            return head + body
        case _:
            return head


def _with(head: bytes, field: str) -> bytes:
    return head.removesuffix(b"\r\n") + field.encode() + b"\r\n\r\n"


@st.composite
def clients(draw: st.DrawFn) -> Sent:
    raw = b"".join(draw(st.lists(requests(), min_size=1, max_size=2)))
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=2)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    return Sent(tuple(piece for piece in pieces if piece), draw(st.booleans()))


class Probe:
    """A connection that is kept: what was sent before its next question has been looked at when it is answered."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def passes(self, times: int = 2) -> None:
        for _ in range(times):
            self.writer.write(request("GET /healthz HTTP/1.1"))
            answered = await read_answer(self._reader)
            assert answered is not None
            assert answered.body == b"ok\n"


class Watcher:
    """A stream of one job, which is to bring each of its lines."""

    def __init__(self, relay: Relay, job: Job, reader: StreamReader) -> None:
        self._relay = relay
        self._job = job
        self._reader = reader
        self._count = 0

    async def sees_the_next(self) -> None:
        self._count += 1
        self._relay.bus.publish(self._job, Log(line=f"line {self._count}."))
        await self._reader.readuntil(f"line {self._count}.".encode())
        await self._reader.readuntil(b"\n\n")


async def send(found: Door, probe: Probe, sent: Sent) -> list[int]:
    """Do what *sent* is; return the statuses that came of it, as far as they come at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
    reading = asyncio.create_task(reader.read(1_000_000))
    try:
        with suppress(ConnectionError):
            for piece in sent.pieces:
                if writer.transport.is_closing():
                    break  # uvloop takes nothing more, and says so with another error
                writer.write(piece)
                await writer.drain()
                await probe.passes(1)
        await probe.passes()
        with suppress(ConnectionError):
            return list(statuses(await reading)) if reading.done() else []
        return []
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.transport.abort() if sent.aborts else writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def statuses(answers: bytes) -> Iterator[int]:
    for line in answers.split(b"\r\n"):
        if line.startswith(b"HTTP/"):
            yield int(line.split()[1])


def a_relay() -> Relay:
    numbers = iter(range(1_000_000))
    return Relay(
        [TwoStep(story({"t": RUNNING, "task_1": RUNNING, "watched": RUNNING}))],
        clock=ManualClock(),
        webhooks=WEBHOOKS,
        new_job_id=lambda: f"job_{next(numbers)}",
    )


async def play(everyone: Sequence[Sent], **options: Any) -> None:
    relay = a_relay()
    async with door(relay, debug=True, hosts={"localhost"}, **options) as found:
        job = relay.follow("scripted", "watched")
        watching, watcher = await asyncio.open_connection("127.0.0.1", found.port)
        probe = Probe(*await asyncio.open_connection("127.0.0.1", found.port))
        watcher.write(request(f"GET /v1/jobs/{job.id}/events HTTP/1.1"))
        story = Watcher(relay, job, watching)
        try:
            await story.sees_the_next()
            for sent in everyone:
                answered = await send(found, probe, sent)
                assert not [status for status in answered if status == HTTPStatus.INTERNAL_SERVER_ERROR], sent
                assert found.failures.counts["failed"] == 0, sent
                # The one thing that may happen to the watched job is that it is cancelled, which is its end.
                if job.ended:
                    break
                await story.sees_the_next()
            await probe.passes()
        finally:
            watcher.close()
            probe.writer.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(everyone=st.lists(clients(), min_size=1, max_size=SENT_AT_ONCE))
async def test_no_request_is_a_fault_or_stops_the_stream_of_another(
    caplog: pytest.LogCaptureFixture, everyone: list[Sent]
) -> None:
    caplog.clear()

    await play(everyone)

    assert [
        record.getMessage() for record in caplog.records if record.exc_info or record.levelno > logging.WARNING
    ] == []
