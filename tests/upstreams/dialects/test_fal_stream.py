"""fal's stream of states brings polls forward where it is served, and its absence changes no story."""

import asyncio
from typing import Any

import pytest

from relay import Record, Relay
from relay.events import Checking, Done
from relay.testing import ManualClock, ScriptedFal
from relay.upstreams import Fal, Pushes
from tests.upstreams.stub import Stub, reply

TASK = "fal-ai/flux/requests/r-1"
STATUS = '{"status": "IN_PROGRESS"}'


def polls(records: list[Record]) -> list[float]:
    start = records[0].at
    return [(record.at - start).total_seconds() for record in records if isinstance(record.event, Checking)]


async def story(server: ScriptedFal, clock: ManualClock, **options: Any) -> list[Record]:
    """A job from its submit to 60 s later, polled every 20 s."""
    records: list[Record] = []
    upstream = Fal(server.url, server.token, clock=clock, interval=20.0, **options)
    assert isinstance(upstream, Pushes)
    async with Relay([upstream], sinks=[records.append], clock=clock) as relay:
        relay.submit("fal", {"model": "fal-ai/flux", "prompt": "a cat"})
        await clock.advance(60.0)
    return records


async def test_a_change_of_state_is_polled_for_at_once_and_the_same_state_is_not() -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server:
        records = await story(server, clock, stream=True)
        streams = server.requests["GET /{application:.+}/requests/{task}/status/stream"]
    # It is second in the queue from 3 s on, at work from 8 s on, and done at 41 s.
    assert [round(at) for at in polls(records)] == [0, 3, 8, 28, 41]
    assert (streams, isinstance(records[-1].event, Done)) == (1, True)


async def test_without_the_setting_no_stream_is_asked_for() -> None:
    clock = ManualClock()
    async with ScriptedFal(clock=clock) as server:
        records = await story(server, clock)
        asked = [name for name in server.requests if name.endswith("stream")]
    assert (asked, [round(at) for at in polls(records)]) == ([], [0, 20, 40, 60])


async def test_where_the_stream_is_not_served_it_is_asked_for_once_and_polling_goes_on() -> None:
    class Without(ScriptedFal):
        def routes(self) -> Any:
            return {way: handler for way, handler in super().routes().items() if not way[1].endswith("stream")}

    clock = ManualClock()
    async with Without(clock=clock) as server:
        records = await story(server, clock, stream=True)
    assert [round(at) for at in polls(records)] == [0, 20, 40, 60]
    assert isinstance(records[-1].event, Done)


@pytest.mark.parametrize(
    "answer",
    [
        reply("", "302 Found", location="http://127.0.0.1:1/"),
        reply("", "503 Service Unavailable"),
        reply("data: {\n\n", content_type="text/event-stream"),
        reply(b"data: " + b"x" * 300_000, content_type="text/event-stream"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n: cut",
    ],
)
async def test_a_stream_that_breaks_is_given_up_in_silence_and_the_next_poll_opens_another(answer: bytes) -> None:
    clock, told = ManualClock(), list[str]()

    def hear(task: str) -> bool:
        told.append(task)
        return True

    async with (
        Stub(reply(STATUS, "202 Accepted"), answer, reply(STATUS, "202 Accepted"), answer) as stub,
        Fal(stub.url, "token", clock=clock, stream=True) as upstream,
    ):
        upstream.on_news = hear
        for count in (2, 4):
            await upstream.observe([TASK])
            (stream,) = upstream._streams.values()
            await stream
            assert (len(stub.requests), upstream._streams) == (count, {})
    assert told == []


async def test_a_stream_ends_once_nobody_follows_its_task_and_leaving_ends_the_others() -> None:
    clock, before = ManualClock(), asyncio.all_tasks()
    async with ScriptedFal(clock=clock) as server:
        async with Fal(server.url, server.token, clock=clock, stream=True) as upstream:
            tasks = [server.add_task("never-finishes"), server.add_task("never-finishes")]
            upstream.on_news = lambda task: task == tasks[1]
            await upstream.observe(tasks)
            opened = len(upstream._streams)
            await clock.advance(6.0)
            left = list(upstream._streams)
        await clock.advance(1.0)
    assert (opened, left, asyncio.all_tasks()) == (2, [tasks[1]], before)
