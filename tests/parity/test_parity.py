"""The promise: whatever the console says about a job, every stream says too, in the same order and the same words.

The relay is real, over real HTTP on both sides, for every scenario that the scripted upstream knows. Streams are read
by an independent parser.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse, ClientSession
from httpx_sse._decoders import SSEDecoder

from relay import Relay
from relay.cli.received import ReceivedRecord
from relay.cli.stream import RelayStream
from relay.events import Level, at_least
from relay.testing import SCENARIOS, ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink, DebugSink
from sinks.answers import FAILURE_CODES
from sinks.console import Format
from tests.web.serving import serve

DEADLINE = 300.0
"""Of the jobs, in seconds: the longest scenario that ends takes 195, and the one without an end is 120 polls long."""


class Said(NamedTuple):
    """What a record says, wherever it is read."""

    job: str
    seq: int
    type: str
    text: str


def said(body: str | bytes) -> Said:
    record: dict[str, Any] = json.loads(body)
    return Said(record["job"], record["seq"], record["type"], record["text"])


def printed(out: io.StringIO) -> list[Said]:
    lines = out.getvalue().splitlines()
    return [said(line) for line in lines if json.loads(line)["type"] != "exchange"]


class Block(NamedTuple):
    id: str
    event: str
    data: str


async def blocks(response: ClientResponse) -> AsyncIterator[Block]:
    decoder = SSEDecoder()
    async for line in response.content:
        block = decoder.decode(line.decode().rstrip("\n"))
        if block is not None:
            yield Block(block.id, block.event, block.data)


class Reader:
    """A browser, as far as the wire goes: it comes back with the last id it saw until it is read to stop."""

    def __init__(self, client: ClientSession, path: str, *, leaves_after: int | None = None) -> None:
        self.heard: list[Said] = []
        self.connections = 0
        self._client = client
        self._path = path
        self._leaves_after = leaves_after
        self._last_id = ""

    async def run(self) -> list[Said]:
        while await self._connect():
            pass
        return self.heard

    async def _connect(self) -> bool:
        self.connections += 1
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        async with self._client.get(self._path, headers=headers) as response:
            if response.status == 204:
                return False
            assert (response.status, response.content_type) == (200, "text/event-stream")
            heard_before = len(self.heard)
            async for block in blocks(response):
                self._last_id = block.id
                if block.event == "bye":
                    return False
                assert block.event == json.loads(block.data)["type"]
                self.heard.append(said(block.data))
                if self._leaves_after and len(self.heard) - heard_before >= self._leaves_after:
                    break
        return True


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_console_debug_and_every_stream_tell_the_same_story(scenario: str) -> None:
    console, debug = io.StringIO(), io.StringIO()
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json"), DebugSink(debug)], clock=clock)
        async with relay, serve(relay) as client:
            job = relay.submit("sora", {"prompt": f"[{scenario}] a cat"})
            path = f"/v1/jobs/{job.id}/events"
            early = [Reader(client, path), Reader(client, path, leaves_after=1), Reader(client, path, leaves_after=7)]
            tasks = [asyncio.ensure_future(reader.run()) for reader in early]
            streams = await asyncio.gather(*tasks)
            late = await Reader(client, path).run()
            late_and_fickle = await Reader(client, path, leaves_after=5).run()

    story = printed(console)
    assert [line.seq for line in story] == list(range(1, len(story) + 1))
    assert [line.type for line in story if line.type in ("done", "failed", "cancelled")] == [story[-1].type]
    assert printed(debug) == story
    for stream in (*streams, late, late_and_fickle):
        assert stream == story
    assert early[2].connections > 2


class Line(NamedTuple):
    """What a record says to those that read a chat: its text, and its percentage if it has one."""

    text: str
    percent: int | None


def lines_of(records: Iterable[str], level: Level) -> list[Line]:
    """The lines of those *records*, as JSON, that a stream of *level* holds."""
    parsed: list[dict[str, Any]] = [json.loads(record) for record in records]
    return [
        Line(record["text"], record.get("percent"))
        for record in parsed
        if at_least(record["level"], level) or record["type"] in ("done", "failed", "cancelled")
    ]


async def chatted(response: ClientResponse) -> tuple[list[Line], str]:
    """The lines of a chat, and how it ended: the finish, or the code of the error."""
    lines, end, over = list[Line](), "", False
    async for block in blocks(response):
        assert (block.event, over) == ("message", False)
        over = block.data == "[DONE]"
        if over:
            continue
        chunk: dict[str, Any] = json.loads(block.data)
        if "error" in chunk:
            end += chunk["error"]["code"]
            continue
        (choice,) = chunk["choices"]
        end += choice["finish_reason"] or ""
        if (text := choice["delta"].get("reasoning_content")) is not None:
            assert text.endswith("\n")
            assert choice["delta"].get("progress") in (None, chunk.get("progress", -1) / 100)
            lines.append(Line(text.removesuffix("\n"), chunk.get("progress")))
    assert over
    return lines, end


async def responded(response: ClientResponse) -> tuple[list[Line], str]:
    """The same of a response."""
    lines, end = list[Line](), ""
    async for block in blocks(response):
        event: dict[str, Any] = json.loads(block.data)
        assert (block.event, end) == (event["type"], "")
        match event:
            case {"type": "response.reasoning_summary_text.delta", "delta": text}:
                lines.append(Line(text.removesuffix("\n"), event.get("progress")))
            case {"type": "response.completed"}:
                end = "stop"
            case {"type": "response.failed", "response": {"error": {"code": code}}}:
                end = code
            case _:
                pass
    return lines, end


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_chat_and_response_of_any_level_have_the_lines_of_native_stream_and_console(scenario: str) -> None:
    console = io.StringIO()
    clock = ManualClock(auto=True)
    levels: tuple[Level, ...] = ("debug", "info", "warning")
    prompt = {"role": "user", "content": f"[{scenario}] 100% a cat"}
    body = {"model": "sora", "stream": True, "messages": [prompt]}
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json")], clock=clock)
        async with relay, serve(relay) as client, AsyncExitStack() as stack:

            async def open_chat(level: Level) -> ClientResponse:
                headers = {"X-Relay-Level": level, "Idempotency-Key": "one job"}
                return await stack.enter_async_context(client.post("/v1/chat/completions", json=body, headers=headers))

            chats = [await open_chat(level) for level in levels]
            (job,) = {chat.headers["X-Relay-Job"] for chat in chats}
            native = asyncio.ensure_future(kept(client, f"/v1/jobs/{job}/events"))
            live = await asyncio.gather(*map(chatted, chats))
            late = [await chatted(await open_chat(level)) for level in levels]
            responses = [
                await responded(await stack.enter_async_context(client.get(path, headers={"X-Relay-Level": level})))
                for path in [f"/v1/responses/resp_{job}?stream=true"]
                for level in levels
            ]
            stream = await native

    records = console.getvalue().splitlines()
    assert stream == records
    last = json.loads(records[-1])
    end = "stop" if last["type"] == "done" else FAILURE_CODES[last["kind"]]
    assert live == late == responses == [(lines_of(records, level), end) for level in levels]
    assert upstream.requests["nf/create"] == 1


async def kept(client: ClientSession, path: str) -> list[str]:
    """The data of each block of a native stream, as it is."""
    async with client.get(path) as response:
        return [block.data async for block in blocks(response)]


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_relay_tail_prints_the_very_lines_of_the_console(scenario: str) -> None:
    formats: tuple[Format, Format] = ("pretty", "json")
    here, there = [io.StringIO(), io.StringIO()], [io.StringIO(), io.StringIO()]
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)
        consoles = [ConsoleSink(out, format=form) for out, form in zip(here, formats, strict=True)]
        tails = [ConsoleSink(out, format=form) for out, form in zip(there, formats, strict=True)]
        async with Relay([sora], sinks=consoles, clock=clock) as relay, serve(relay) as client:
            job = relay.submit("sora", {"prompt": f"[{scenario}] a cat"})
            async with aclosing(RelayStream(str(client._base_url), [job.id], clock=clock).read()) as stream:
                async for told in stream:
                    assert isinstance(told, ReceivedRecord)
                    for tail in tails:
                        tail(told)
        for tail in tails:
            tail.close()

    assert [out.getvalue() for out in there] == [out.getvalue() for out in here]
    assert all(out.getvalue() for out in there)


def interleaved(scenarios: Iterable[str]) -> list[str]:
    return [f"[{scenario}] a cat" for scenario in scenarios]


@pytest.mark.parametrize(
    "scenarios",
    [["happy", "gap", "violation", "reappears", "garbage"], ["happy", "rate-limited", "error-item"], ["html", "slow"]],
    ids="+".join,
)
async def test_one_stream_of_all_jobs_is_the_console_line_by_line(scenarios: list[str]) -> None:
    console = io.StringIO()
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json")], clock=clock)
        async with relay:
            async with serve(relay) as client:
                every = asyncio.ensure_future(Reader(client, "/v1/events").run())
                jobs = [relay.submit("sora", {"prompt": prompt}) for prompt in interleaved(scenarios)]
                named = "&".join(f"job={job.id}" for job in jobs)
                some = await Reader(client, f"/v1/events?{named}").run()
            whole = await every

    assert whole == some == printed(console)


async def test_a_stream_of_some_levels_says_what_the_console_says_at_that_level_and_the_end() -> None:
    console = io.StringIO()
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock, deadline=DEADLINE)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json", level="warning")], clock=clock)
        async with relay, serve(relay) as client:
            job = relay.submit("sora", {"prompt": "[rate-limited] a cat"})
            stream = await Reader(client, f"/v1/jobs/{job.id}/events?level=warning").run()

    assert stream == printed(console)
    assert [line.type for line in stream] == ["retrying", "retrying", "retrying", "done"]


async def test_one_pending_request_an_interval_serves_five_jobs_of_an_account() -> None:
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock, scenario="happy") as upstream:
        tasks = [upstream.add_task() for _ in range(5)]
        relay = Relay([Sora(upstream.url, upstream.token, clock=clock)], clock=clock)
        async with relay, serve(relay) as client:
            jobs = [relay.follow("sora", task) for task in tasks]
            named = "&".join(f"job={job.id}" for job in jobs)
            await Reader(client, f"/v1/events?{named}").run()
        polls = {job.state.attempt for job in jobs}

    assert polls == {upstream.requests["nf/pending/v2"]}
    assert clock.monotonic() == pytest.approx((polls.pop() - 1) * 2.5)
