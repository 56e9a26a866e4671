"""The promise: whatever the console says about a job, every stream says too, in the same order and the same words.

The relay is real, over real HTTP on both sides, for every scenario that the scripted upstream knows. Streams are read
by an independent parser.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse, ClientSession
from httpx_sse._decoders import SSEDecoder

from relay import Relay
from relay.cli.stream import RelayStream
from relay.cli.told import Told
from relay.testing import SCENARIOS, ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink, DebugSink
from sinks.console import Format
from tests.web.serving import serve


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
    """A browser, as far as the wire goes: it comes back with the last id it saw until it is told to stop."""

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
        sora = Sora(upstream.url, upstream.token, clock=clock)
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


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_relay_tail_prints_the_very_lines_of_the_console(scenario: str) -> None:
    formats: tuple[Format, Format] = ("pretty", "json")
    here, there = [io.StringIO(), io.StringIO()], [io.StringIO(), io.StringIO()]
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        consoles = [ConsoleSink(out, format=form) for out, form in zip(here, formats, strict=True)]
        tails = [ConsoleSink(out, format=form) for out, form in zip(there, formats, strict=True)]
        async with Relay([sora], sinks=consoles, clock=clock) as relay, serve(relay) as client:
            job = relay.submit("sora", {"prompt": f"[{scenario}] a cat"})
            async with aclosing(RelayStream(str(client._base_url), [job.id], clock=clock).read()) as stream:
                async for told in stream:
                    assert isinstance(told, Told)
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
        sora = Sora(upstream.url, upstream.token, clock=clock)
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
        sora = Sora(upstream.url, upstream.token, clock=clock)
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
