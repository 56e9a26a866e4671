"""A crowd takes turns: however many want the loop, what else is due runs after a few of them."""

import asyncio
import json
from itertools import pairwise

import msgspec

from relay import Relay
from relay.events import Accepted, Log
from relay.testing import ManualClock
from tests.web.serving import serve
from web.state_snapshot import SLICE, StateSnapshot
from web.turn_queue import TurnQueue


async def test_in_each_round_of_the_loop_a_few_have_their_turn_and_in_order() -> None:
    turns, had, rounds = TurnQueue(3), list[int](), list[int]()

    async def work(number: int) -> None:
        for _ in range(2):
            await turns.wait_turn()
            had.append(number)

    async def poll() -> None:
        while len(had) < 40:
            rounds.append(len(had))
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(poll(), *(work(number) for number in range(20)))

    assert sorted(had) == sorted([*range(20)] * 2)
    assert max(after - before for before, after in pairwise(rounds)) <= 2 * 3
    assert list(dict.fromkeys(had)) == [*range(20)]


async def test_a_turn_of_a_task_that_was_cancelled_is_the_next_ones() -> None:
    turns = TurnQueue(1)
    _, gone, behind = [asyncio.create_task(turns.wait_turn()) for _ in range(3)]
    await asyncio.sleep(0)
    gone.cancel()

    async with asyncio.timeout(30):
        await behind
    assert gone.cancelled()


async def test_many_jobs_stand_as_they_did_at_one_moment_and_are_encoded_in_turns() -> None:
    async with Relay([], clock=ManualClock()) as relay:
        jobs = [relay.registry.admit() for _ in range(2 * SLICE + 1)]
        with relay.bus.batch():
            for job in jobs:
                relay.bus.publish(job, Accepted(upstream="u", task="t"))
        standing = StateSnapshot(relay.bus, jobs)
        expected = [json.loads(msgspec.json.encode(job.snapshot())) for job in jobs]
        position = f"{relay.journal.epoch}-{relay.journal.head}"
        turns = TurnQueue(1)
        encoding = asyncio.create_task(standing.encoded(turns, {"upstreams": ["u"]}))
        for job in reversed(jobs):
            await asyncio.sleep(0)
            relay.bus.publish(job, Log(line="meanwhile"))

        assert json.loads(await encoding) == {"position": position, "upstreams": ["u"], "jobs": expected}
        assert json.loads(await StateSnapshot(relay.bus, []).encoded(turns))["jobs"] == []


async def test_a_list_of_many_jobs_is_whole() -> None:
    async with Relay([], clock=ManualClock()) as relay, serve(relay) as client:
        jobs = [relay.registry.admit() for _ in range(SLICE + 10)]
        with relay.bus.batch():
            for job in jobs:
                relay.bus.publish(job, Accepted(upstream="u", task="t"))
        for path in ("/v1/jobs", "/v1/events"):
            state = await (await client.get(path, headers={"Accept": "application/json"})).json()
            assert [one["job"] for one in state["jobs"]] == [job.id for job in jobs]
