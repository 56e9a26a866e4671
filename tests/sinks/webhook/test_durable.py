"""A durable webhook in a relay with a journal in a file: in lanes per job, and on from where it got to."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp.web import Request, Response

from relay import Relay, SinkOptions, SqliteJournal
from relay.events import Checking, Done
from relay.testing import ManualClock
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, Delivery, Receiver, a_receiver, verify

JOBS = 5


@asynccontextmanager
async def a_relay(
    path: Path, url: str, notices: list[str] | None = None, *, auto: bool = False, **options: Any
) -> AsyncGenerator[Relay]:
    """A relay whose only sink is a durable webhook. With *auto* its clock jumps once there is nothing else to do."""
    if options.get("template") is None:
        options["secret"] = KEY
    sink = WebhookSink(url, allow_private=True, **options)
    with closing(SqliteJournal(path / "relay.db")) as journal:
        relay = Relay(
            [],
            sinks=[SinkOptions(sink=sink, name="hook", durable=True)],
            journal=journal,
            clock=ManualClock(auto=auto, start=datetime.now(UTC)),
            notify=(notices if notices is not None else []).append,
        )
        async with relay:
            yield relay


def tell(relay: Relay, jobs: int = JOBS, records: int = 3) -> set[tuple[str, int]]:
    """Publish a story for each of *jobs*; return job and seq of every record."""
    told: set[tuple[str, int]] = set()
    with relay.bus.batch():
        for job in [relay.registry.admit() for _ in range(jobs)]:
            for seq in range(1, records):
                relay.bus.publish(job, Checking(attempt=seq, of=records))
            relay.bus.publish(job, Done())
            told |= {(job.id, seq) for seq in range(1, records + 1)}
    return told


def place(delivery: Delivery) -> tuple[str, int]:
    data = json.loads(delivery.body)["data"]
    return data["job"], data["seq"]


async def all_of(receiver: Receiver, told: set[tuple[str, int]]) -> None:
    """Return once all that was *told* has arrived."""
    while not told <= set(map(place, receiver.deliveries)):
        receiver.arrived.clear()
        await receiver.arrived.wait()


def assert_in_order(receiver: Receiver) -> None:
    """Each job's records came in order; one that came again came before the next of its job."""
    for job in {place(delivery)[0] for delivery in receiver.deliveries}:
        seqs = [seq for other, seq in map(place, receiver.deliveries) if other == job]
        assert seqs == sorted(seqs)


async def test_jobs_are_under_way_at_once_and_the_records_of_one_job_one_after_the_other(tmp_path: Path) -> None:
    under_way, together = Counter[str](), asyncio.Event()
    at_once: list[int] = []

    async def answer(request: Request) -> Response:
        job = json.loads(await request.read())["subject"]
        under_way[job] += 1
        assert under_way[job] == 1
        at_once.append(under_way.total())
        if under_way.total() == JOBS:
            together.set()
        await together.wait()
        under_way[job] -= 1
        return Response(status=204)

    async with a_receiver(*[answer] * 99) as receiver, a_relay(tmp_path, receiver.url) as relay:
        told = tell(relay)
        await all_of(receiver, told)
    assert max(at_once) == JOBS
    assert_in_order(receiver)


async def test_with_one_lane_one_request_is_under_way(tmp_path: Path) -> None:
    under_way = 0

    async def answer(_: Request) -> Response:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(0)
        under_way -= 1
        return Response(status=204)

    async with a_receiver(*[answer] * 99) as receiver, a_relay(tmp_path, receiver.url, lanes=1) as relay:
        await all_of(receiver, tell(relay))
    assert_in_order(receiver)


async def test_what_fails_for_hours_arrives_in_the_end_signed_for_its_last_attempt(tmp_path: Path) -> None:
    notices: list[str] = []
    failures = [Response(status=503) for _ in range(40)]
    async with a_receiver(*failures) as receiver, a_relay(tmp_path, receiver.url, notices, auto=True) as relay:
        await all_of(receiver, tell(relay))
        while receiver.answers:
            receiver.arrived.clear()
            await receiver.arrived.wait()
    assert_in_order(receiver)
    assert any("answered 503" in text for text in notices)


async def test_after_a_restart_it_goes_on_and_a_record_that_comes_again_has_its_id(tmp_path: Path) -> None:
    async with a_receiver() as receiver:
        pass  # nobody listens there for now
    async with a_relay(tmp_path, receiver.url, auto=True) as relay:
        told = tell(relay)
    async with a_receiver() as receiver, a_relay(tmp_path, receiver.url, auto=True):
        await all_of(receiver, told)
    for delivery in receiver.deliveries:
        verify(delivery, KEY)
    ids: dict[tuple[str, int], set[str]] = {}
    for delivery in receiver.deliveries:
        ids.setdefault(place(delivery), set()).add(delivery.headers["webhook-id"])
    assert {len(found) for found in ids.values()} == {1}
    assert_in_order(receiver)


async def test_an_endpoint_that_is_gone_gets_nothing_more_and_the_operator_is_notified(tmp_path: Path) -> None:
    notices: list[str] = []
    async with (
        a_receiver(Response(status=410)) as receiver,
        a_relay(tmp_path, receiver.url, notices, lanes=1) as relay,
    ):
        tell(relay)
        await receiver.arrived.wait()
    assert len(receiver.deliveries) == 1
    assert any("answered 410 (gone)" in text for text in notices)


async def test_a_chat_gets_the_end_of_each_job(tmp_path: Path) -> None:
    async with (
        a_receiver() as receiver,
        a_relay(tmp_path, receiver.url, template="slack") as relay,
    ):
        tell(relay)
        while len(receiver.deliveries) < JOBS:
            receiver.arrived.clear()
            await receiver.arrived.wait()
    assert all(json.loads(delivery.body)["text"].endswith(": done") for delivery in receiver.deliveries)
