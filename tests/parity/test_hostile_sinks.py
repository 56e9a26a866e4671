"""Sinks that raise, hang and dawdle beside 1,000 records: the console and 50 streams tell the same story."""

import asyncio
import io
from collections.abc import Sequence
from contextlib import AsyncExitStack

from relay import Job, Record, Relay
from relay.events import Done, Log
from relay.testing import ManualClock
from sinks import ConsoleSink
from tests.parity.test_parity import Reader, Said, printed
from tests.relay.scripted import OneStep
from tests.web.serving import serve

RECORDS, STREAMS = 1_000, 50


class Hostile:
    """Three sinks that break the contract, each in its own way. Time passes on *clock* alone."""

    def __init__(self, clock: ManualClock) -> None:
        self.calls = {"raises": 0, "never returns": 0, "dawdles": 0}
        self._clock = clock

    def raises(self, record: Record) -> None:
        self.calls["raises"] += 1
        raise RuntimeError(record.event.text)

    async def never_returns(self, _: Record) -> None:
        self.calls["never returns"] += 1
        await asyncio.Event().wait()

    def dawdles(self, _: Record) -> None:
        self.calls["dawdles"] += 1
        self._clock._elapsed += 0.2


async def test_console_and_streams_tell_one_story_beside_three_hostile_sinks() -> None:
    clock, out, notices = ManualClock(), io.StringIO(), list[str]()
    hostile = Hostile(clock)
    sinks = [hostile.raises, hostile.never_returns, hostile.dawdles, ConsoleSink(out, format="json")]
    async with Relay([OneStep(lambda _: {})], sinks=sinks, clock=clock, notify=notices.append) as relay:
        job = relay.registry.add(Job("job_a"))
        relay.bus.publish(job, Log(line="the first"))
        async with serve(relay) as client, AsyncExitStack() as stack:
            readers = [Reader(client, "/v1/events?job=job_a") for _ in range(STREAMS)]
            reading = [asyncio.ensure_future(reader.run()) for reader in readers]
            stack.push_async_callback(_end, reading)
            for number in range(RECORDS):
                relay.bus.publish(job, Log(line=f"line {number}"))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            relay.bus.publish(job, Done(urls=("https://example.org/a.mp4",)))
            stories = await asyncio.gather(*reading)
        status = {sink.name.rpartition(".")[2]: sink.status() for sink in relay.sinks}
    console = printed(out)
    assert len(console) == RECORDS + 2
    assert console[-1].type == "done"
    assert [one for one in stories if one != console] == []
    # The clock goes on by a second, during the calls that dawdle: no probe is due.
    assert hostile.calls == {"raises": 5, "never returns": 1, "dawdles": 5}
    assert {name: one.state for name, one in status.items() if name in ("raises", "dawdles")} == {
        "raises": "open",
        "dawdles": "open",
    }
    for one in status.values():
        assert one.delivered + one.dropped + one.failed + one.coalesced + one.waiting == RECORDS + 2, one
    assert any("ended before it delivered" in notice for notice in notices)


async def _end(reading: Sequence["asyncio.Future[list[Said]]"]) -> None:
    for one in reading:
        one.cancel()
