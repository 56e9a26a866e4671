"""Streams that are open while the journal of a cluster begins anew: a gap and a snapshot each, and no end."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse

from relay import Position
from tests.cluster.house import FINISHED
from tests.cluster.memory_engine import BEHIND_ALL
from tests.web.nodes import INTERVAL, served
from web.streaming.keys import STREAMS

pytestmark = pytest.mark.usefixtures("take_over")

NDJSON = {"Accept": "application/x-ndjson"}


class Block(NamedTuple):
    """A block of a stream, or a line of one."""

    id: str
    event: str
    data: dict[str, Any]


async def blocks(response: ClientResponse) -> AsyncGenerator[Block]:
    """The blocks of a stream as they come, comments left out."""
    if response.content_type == NDJSON["Accept"]:
        async for line in response.content:
            said = json.loads(line)
            yield Block(said.get("position", ""), said["type"], said)
        return
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and name != ":":
            fields[name] = value
        elif not name and fields:
            yield Block(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


async def until(stream: AsyncGenerator[Block], text: str) -> list[Block]:
    """The next blocks, up to one of which the data has this *text*."""
    came: list[Block] = []
    async for block in stream:
        came.append(block)
        if text in json.dumps(block.data):
            return came
    raise AssertionError(f"the stream ended without {text!r}: {came}")


def epochs(came: Sequence[Block]) -> list[str]:
    return [block.id.rpartition("-")[0] for block in came]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/events", {}),
        ("/v1/events?level=warning", {}),
        ("/v1/jobs/{job}/events", {}),
        ("/v1/events?job={job}", NDJSON),
    ],
    ids=["all", "a level", "one job", "lines"],
)
async def test_a_stream_says_a_gap_and_the_state_in_a_new_epoch_and_goes_on(path: str, headers: dict[str, str]) -> None:
    async with served() as one:
        job = await one.house.relay.requests.follow("single", "t")
        one.say(job, "before", "error")
        await one.nodes.advance(INTERVAL)
        old = one.house.journal.epoch
        async with AsyncExitStack() as stack:
            streams: list[AsyncGenerator[Block]] = []
            for _ in range(3):
                response = await stack.enter_async_context(one.client.get(path.format(job=job.id), headers=headers))
                streams.append(await stack.enter_async_context(aclosing(blocks(response))))
                await until(streams[-1], "before")
            await one.all_live(3)
            reached = one.house.journal.head
            await one.lose()
            seq = job.state.seq
            one.say(job, "behind", "error")
            came = [await until(stream, "behind") for stream in streams]
            new = one.house.journal.epoch

    for stream_came in came:
        notices = [block for block in stream_came if block.event in ("gap", "snapshot")]
        gap, snapshot = notices[:2]
        first = next(n for n, block in enumerate(stream_came) if block is gap)
        assert (gap.event, gap.id, gap.data["missed"]) == ("gap", "unknown-0", None)
        start, to = Position.parse(gap.data["from"]), Position.parse(gap.data["to"])
        assert start == Position(old, reached), "all that was committed before was written"
        assert to is not None
        assert (to.epoch, to.offset >= reached + BEHIND_ALL) == (new, True)
        assert (snapshot.event, snapshot.id) == ("snapshot", str(to))
        assert [state["job"] for state in snapshot.data["jobs"]] == [job.id]
        assert set(epochs(stream_came[:first])) <= {old, ""}
        assert set(epochs([*stream_came[first + 1 :]])) - {"unknown", ""} <= {new}
        assert stream_came[-1].data["seq"] == seq + 1
    assert one.app[STREAMS].counts.gaps >= 3


async def test_a_stream_that_has_not_read_its_page_yet_says_the_gap_before_any_record_of_the_new_epoch() -> None:
    """It stands between two pages while the epoch changes: nothing of the new one may be taken for the next page."""
    async with served() as one:
        job = await one.house.relay.requests.follow("single", "t")
        for number in range(2_000):
            one.say(job, f"line {number} " + "x" * 2_000)
        await one.nodes.advance(0.1)
        async with one.client.get(f"/v1/jobs/{job.id}/events") as response, aclosing(blocks(response)) as stream:
            first = await anext(stream)
            await one.lose()
            one.say(job, "behind")
            came = [first, *await until(stream, "behind")]
    events = [block.event for block in came]
    assert "gap" in events
    at = events.index("gap")
    assert at < 2_000, "the client was in the middle of the past"
    records = [block.data["seq"] for block in came[:at]]
    assert records == list(range(1, at + 1))
    assert came[at].data["from"] == came[at - 1].id
    assert events[at + 1] == "snapshot"


async def test_the_streams_of_a_job_that_has_ended_end_in_the_new_epoch_too() -> None:
    async with served() as one:
        job = await one.house.relay.requests.follow("single", "t")
        path = f"/v1/jobs/{job.id}/events"
        async with one.client.get(path) as response:
            one.nodes.world.said["t"] = FINISHED
            await one.nodes.advance(3 * INTERVAL)
            last = [block async for block in blocks(response)][-1]
        assert last.event == "done"
        await one.lose()
        new = one.house.journal.epoch
        async with one.client.get(path, headers={"Last-Event-ID": last.id}) as response:
            came = [block async for block in blocks(response)]
        assert [block.event for block in came] == ["gap", "snapshot"]
        (state,) = came[-1].data["jobs"]
        assert (came[0].data["from"], state["terminal"]) == (last.id, "done")
        assert came[-1].id.startswith(new)
        async with one.client.get(path, headers={"Last-Event-ID": came[-1].id}) as response:
            assert response.status == 204


async def test_readers_of_another_node_say_a_gap_where_the_owner_carries_over_what_they_have_not_read() -> None:
    async with served(2) as one:
        here, there = one.nodes.houses
        job = await there.relay.requests.follow("single", "t")
        assert one.nodes.owner(job) is there
        await one.nodes.advance(0.1)
        async with one.client.get(f"/v1/jobs/{job.id}/events") as response, aclosing(blocks(response)) as stream:
            came = await until(stream, "accepted")
            await one.all_live(1)
            one.gates(here).tail.close()
            one.say(job, "read by its owner alone")
            await one.nodes.advance(0.1)
            seq = there.job(job).state.seq
            assert here.job(job).state.seq < seq
            one.engine.flush()
            one.gates(here).tail.open()
            await one.lose()
            one.say(job, "behind")
            came += await until(stream, "behind")
    shown = [(block.event, block.data["jobs"][0]["seq"]) for block in came if block.event == "snapshot"]
    assert shown[-1][1] >= seq, "a state that has what was lost to this node"
    known = 0
    for block in came:
        if block.event == "snapshot":
            known = block.data["jobs"][0]["seq"]
        elif block.event != "gap":
            assert block.data["seq"] == known + 1, "a hole without a notice"
            known = block.data["seq"]


async def test_the_position_of_the_state_is_that_of_the_new_epoch_wherever_it_is_shown() -> None:
    async with served() as one:
        job = await one.house.relay.requests.follow("single", "t")
        await one.lose()
        one.say(job, "behind")
        await one.nodes.advance(0.1)
        head = str(Position(one.house.journal.epoch, one.house.journal.head))
        for path in ("/v1/jobs", f"/v1/jobs/{job.id}/events", "/v1/sinks"):
            async with one.client.get(path, headers={"Accept": "application/json"}) as response:
                assert (await response.json())["position"] == head
        async with one.client.get("/v1/sinks") as response:
            cursors = [sink["cursor"] for sink in (await response.json())["sinks"]]
        assert all(cursor.startswith(one.house.journal.epoch) for cursor in cursors)
        async with one.client.get("/v1/events?follow=false") as response:
            kept = [block async for block in blocks(response)]
        assert kept[0].event == "gap"
        assert kept[-1].data["text"] == "behind"
        assert kept[-1].id == head


async def test_while_the_engine_is_away_streams_stay_open_and_behind_it_nothing_is_missing() -> None:
    async with served(heartbeat=0.01) as one:
        job = await one.house.relay.requests.follow("single", "t")
        await one.nodes.advance(1.0)
        one.say(job, "before")
        await one.nodes.advance(0.1)
        async with one.client.get(f"/v1/jobs/{job.id}/events") as response:
            await response.content.readuntil(b"before")
            await response.content.readuntil(b"\n\n")
            await one.all_live(1)
            one.engine.down = True
            one.say(job, "meanwhile")
            await one.nodes.advance(INTERVAL)
            beats = [await response.content.readline() for _ in range(3)]
            async with one.client.get("/readyz") as ready:
                assert (ready.status, "the engine cannot be reached" in await ready.text()) == (503, True)
            one.engine.down = False
            await one.nodes.advance(2 * INTERVAL)
            came = await response.content.readuntil(b"meanwhile")
            assert one.app[STREAMS].counts.opened == 1
        async with one.client.get("/readyz") as ready:
            assert ready.status == 200
    assert beats == [b":\n"] * 3
    assert b"gap" not in came
    assert b"snapshot" not in came
