"""What the first clients of this dialect do with a stream, as their sources are written, done to real streams.

Each client is named in its test's comment. They take liberties that no specification grants, and each of them has once
lost a step, a figure or a result by it.
"""

import asyncio
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from relay import Relay
from relay.config.settings import GatewayModel, GatewaySettings
from relay.events import Done, Level, Log, Position, Record
from relay.testing import SCENARIOS, ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink
from sinks.chat import ChatChunks
from tests.web.raw import request
from tests.web.serving import serve
from web.gateway.wire import ChatWire

MODEL: Final = "98% sora"
PROMPT: Final = "99% of a cat, see https://example.org/a%20b?c=97%25"
POLICY: Final = re.compile(r"(blocked|guardrail|违规|不支持|限制)", re.IGNORECASE)
POSITION: Final = Position("e1", 42)
AT: Final = datetime(2026, 11, 29, tzinfo=UTC)


class Stream(Struct, frozen=True):
    """One chat as it came: the data of each read, and the records that the console printed about the job."""

    reads: list[bytes]
    records: list[dict[str, Any]]

    @property
    def lines(self) -> list[str]:
        """The data lines, as they were sent."""
        blocks = b"".join(self.reads).decode("ascii").split("\n")
        return [line for line in blocks if line.startswith("data: ") and line != "data: [DONE]"]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(line.removeprefix("data: ")) for line in self.lines]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [chunk["choices"][0]["delta"] for chunk in self.chunks if "choices" in chunk]

    @property
    def succeeded(self) -> bool:
        return bool(self.records[-1]["type"] == "done")

    @property
    def url(self) -> str:
        """The address of the result."""
        return str(self.records[-1]["urls"][0])


async def read_chunks(reader: asyncio.StreamReader) -> list[bytes]:
    """What each read gives to a client whose reads are as the server's writes: one chunk of the transfer each."""
    await reader.readuntil(b"\r\n\r\n")
    reads: list[bytes] = []
    while size := int(await reader.readline(), 16):
        reads.append(await reader.readexactly(size))
        assert await reader.readexactly(2) == b"\r\n"
    return reads


async def recorded(scenario: str, level: Level) -> Stream:
    console = io.StringIO()
    clock = ManualClock(auto=True)
    settings = GatewaySettings(models={MODEL: GatewayModel(upstream="sora")})
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json")], clock=clock)
        async with relay, serve(relay, gateway=settings) as client:
            message = {"role": "user", "content": f"[{scenario}] {PROMPT}"}
            body = json.dumps({"model": MODEL, "stream": True, "messages": [message]}).encode()
            fields = ("Content-Type: application/json", f"X-Relay-Level: {level}")
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(str(client._base_url)).port)
            writer.write(request("POST /v1/chat/completions HTTP/1.1", *fields, body=body))
            reads = await read_chunks(reader)
            writer.close()
    return Stream(reads, [json.loads(line) for line in console.getvalue().splitlines()])


Streams = dict[tuple[str, Level], Stream]
IN_DETAIL: Final = ("happy", "gap", "rate-limited", "violation")


@pytest.fixture(scope="module")
def streams() -> Streams:
    """A chat of every scenario at the default level, and of some with everything."""

    wanted: list[tuple[str, Level]] = []
    wanted.extend((scenario, "info") for scenario in SCENARIOS)
    wanted.extend((scenario, "debug") for scenario in IN_DETAIL)

    async def record() -> Streams:
        return {(scenario, level): await recorded(scenario, level) for scenario, level in wanted}

    return asyncio.run(record())


def naive_events(reads: list[bytes]) -> Iterator[str]:
    """generate.js: each network read is split on blank lines by itself; what is cut off is lost."""
    for read in reads:
        for frame in read.decode().split("\n\n"):
            if frame.startswith("data:"):
                yield frame.partition("\n")[0].removeprefix("data:").strip()


def test_a_client_without_a_carry_buffer_sees_every_event(streams: Streams) -> None:
    for stream in streams.values():
        *events, end = naive_events(stream.reads)
        assert (list(map(json.loads, events)), end) == (stream.chunks, "[DONE]")


def test_the_first_figure_before_a_percent_sign_in_the_raw_line_is_the_percentage(streams: Streams) -> None:
    # generate.js looks through the line as it was sent, so that a prompt, a model or an address can move its bar.
    for stream in streams.values():
        found = [re.search(r"(\d{1,3})%", line) for line in stream.lines]
        assert [int(figure[1]) if figure else None for figure in found] == [
            chunk.get("progress") if "content" not in chunk["choices"][0]["delta"] else None
            for chunk in stream.chunks
            if "choices" in chunk
        ] + [None] * sum("error" in chunk for chunk in stream.chunks)
    percents = [record["percent"] for record in streams["happy", "debug"].records if record["type"] == "progress"]
    shown = [chunk["progress"] for chunk in streams["happy", "debug"].chunks[:-2] if "progress" in chunk]
    assert shown == [percent for percent in percents if percent is not None]


def test_a_line_without_a_percentage_shows_no_figure_that_could_reset_a_bar(streams: Streams) -> None:
    # soraApi.ts looks through the reasoning for one or more digits before a percent sign.
    for stream in streams.values():
        by_text = {f"{record['text']}\n": record.get("percent") for record in stream.records}
        steps = [delta["reasoning_content"] for delta in stream.deltas if "reasoning_content" in delta]
        figures = [re.search(r"(\d+)%", step) for step in steps]
        assert [int(figure[1]) if figure else None for figure in figures] == [by_text[step] for step in steps]


def in_delta_output(stream: Stream) -> str | None:
    outputs = [output for delta in stream.deltas for output in delta.get("output", [])]
    return next((output["url"] for output in outputs if "url" in output), None)


def in_text(pattern: str, stream: Stream) -> str | None:
    text = "".join(delta.get("content") or "" for delta in stream.deltas)
    found = re.search(pattern, text)
    return found[1] if found else None


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"src='([^']+)'", id="soraApi.ts, which requires single quotes"),
        pytest.param(r"<video[^>]+src=['\"]([^'\"]+)['\"]", id="the video tag"),
        pytest.param(r"(https?://[^\s'\"<>]+\.(?:mp4|mov|webm|png|jpg)[^\s'\"<>]*)", id="the extension of a medium"),
        pytest.param(r"(https?://[^\s'\"<>]+)", id="any link"),
    ],
)
def test_the_result_is_found_in_the_content(streams: Streams, pattern: str) -> None:
    for stream in streams.values():
        assert in_text(pattern, stream) == (stream.url if stream.succeeded else None)


def test_the_result_is_found_in_the_output_of_a_delta(streams: Streams) -> None:
    for stream in streams.values():
        assert in_delta_output(stream) == (stream.url if stream.succeeded else None)


def test_no_link_comes_before_the_result_which_would_end_the_job_for_the_client(streams: Streams) -> None:
    # generate.js takes the first link for the result, and goes to 100.
    for stream in streams.values():
        early = [line for line, chunk in zip(stream.lines, stream.chunks, strict=True) if "content" not in str(chunk)]
        assert not [line for line in early if "http" in line]
        steps = [delta.get("reasoning_content", "") for delta in stream.deltas]
        assert not [step for step in steps if "http" in step]


def test_nothing_in_a_healthy_run_reads_like_a_violation_of_the_rules(streams: Streams) -> None:
    # generate.js ends the job at these words, in whatever line they are.
    healthy = [stream for stream in streams.values() if stream.succeeded]
    assert len(healthy) > len(SCENARIOS) / 2
    for stream in healthy:
        assert not [
            line for line in stream.lines if POLICY.search(json.dumps(json.loads(line[6:]), ensure_ascii=False))
        ]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("gap", {"from": "e1-1", "to": "e1-9", "missed": 8}),
        ("gap", {"from": None, "to": "e1-9", "missed": None}),
        ("skipped", {"missed": 1}),
        ("skipped", {"missed": 1_200}),
        ("bye", {"reason": "the relay is shutting down"}),
    ],
)
async def test_no_notice_reads_like_a_violation_of_the_rules(event: str, data: dict[str, Any]) -> None:
    async with ScriptedUpstream(clock=ManualClock()) as upstream:
        relay = Relay([Sora(upstream.url, upstream.token)])
        wire = ChatWire(relay.registry.admit(), ChatChunks(job="job_7", created=0, model="sora"))
        assert not POLICY.search(wire.notice(event, data, POSITION).decode())


def test_an_end_of_a_line_is_never_a_backslash_and_an_n(streams: Streams) -> None:
    # The fault that this project began with: a stream whose blocks never ended, since each end was these two letters.
    for stream in streams.values():
        sent = b"".join(stream.reads)
        assert rb"\n\n" not in sent
        assert sent.endswith(b"}\n\ndata: [DONE]\n\n") or re.search(rb"\nid: \S+\n\ndata: \[DONE\]\n\n$", sent)
        assert not [delta for delta in stream.deltas if "\\n" in delta.get("reasoning_content", "")]


@pytest.mark.parametrize("text", [r"a\n\nb", "a\n\nb", r"data: {}\n\n"])
def test_neither_can_a_text_of_an_upstream_begin_or_end_a_block(text: str) -> None:
    chunks = ChatChunks(job="job_7", created=0, model="sora")
    for event in (Log(line=text), Done(result=text)):
        sent = chunks.record(Record(job="job_7", seq=1, at=AT, event=event, position=POSITION, json=b"{}")).decode()
        blocks = sent.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
        documents = [json.loads(block.partition("\n")[0].removeprefix("data: ")) for block in blocks]
        assert len(documents) == (1 if isinstance(event, Log) else 3)
        assert documents[0]["choices"][0]["delta"]["reasoning_content"] == f"{event.text}\n"


def test_the_task_is_named_before_the_first_poll_and_within_the_time_that_clients_wait_for_it(
    streams: Streams,
) -> None:
    # polo_adapter waits five seconds for a chunk with `delta.output[0].task_id`.
    for (_, level), stream in streams.items():
        named = [number for number, delta in enumerate(stream.deltas) if "task_id" in str(delta.get("output"))]
        assert named == [2]
        assert stream.deltas[2]["output"] == [{"index": 0, "task_id": stream.records[1]["task"]}]
        first, second = (datetime.fromisoformat(record["at"]) for record in stream.records[:2])
        assert (second - first).total_seconds() < 5
        if level == "debug":
            assert stream.deltas[3]["reasoning_content"].startswith("checking")
