"""Verifiers from other hands accept what the webhook sink posts, and refuse what somebody replays or changes."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks

from relay.events import Done
from relay.testing import ManualClock, sample_records
from relay.testing.conformance.samples import hostile_records
from tests.interop.clients import NEEDS_NPM, NODE
from tests.sinks.webhook.receiver import KEY, OLD_KEY, Delivery, a_key, a_receiver, a_record, a_webhook, ignore

HERE = Path(__file__).parent
STRANGER = a_key(9)

Verify = Callable[[Sequence[Delivery], Sequence[str]], Any]
"""For each delivery, what each of its verifiers says with each key: "accepted", or why not."""


async def in_python(deliveries: Sequence[Delivery], keys: Sequence[str]) -> list[list[str]]:
    def said(verifier: Any, key: str, delivery: Delivery) -> str:
        try:
            verifier(key).verify(delivery.body, dict(delivery.headers))
        except standardwebhooks.WebhookVerificationError as error:
            return str(error)
        return "accepted"

    verifiers = (standardwebhooks.Webhook, svix.webhooks.Webhook)
    return [[said(verifier, key, delivery) for verifier in verifiers for key in keys] for delivery in deliveries]


async def in_node(deliveries: Sequence[Delivery], keys: Sequence[str]) -> list[list[str]]:
    lines = [{"keys": keys, "headers": dict(one.headers), "body": one.body.decode()} for one in deliveries]
    process = await asyncio.create_subprocess_exec(
        NODE, str(HERE / "verify.mjs"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate("".join(f"{json.dumps(line)}\n" for line in lines).encode())
    return [json.loads(line) for line in output.splitlines()]


VERIFIERS = [pytest.param(in_python, id="python"), pytest.param(in_node, id="npm", marks=NEEDS_NPM)]


async def delivered(secret: str, clock: ManualClock | None = None) -> list[Delivery]:
    """Every kind of record, and every hostile text, as it arrives."""
    records = [*sample_records(), *hostile_records()]
    async with a_receiver() as receiver, a_webhook(receiver.url, secret=secret) as sink:
        if clock is not None:
            sink.bind(clock, ignore, "hook")
        for record in records:
            await sink.work(record)
    assert len(receiver.deliveries) == len(records)
    return receiver.deliveries


@pytest.mark.parametrize("verify", VERIFIERS)
async def test_every_delivery_is_accepted_and_that_of_a_stranger_is_not(verify: Verify) -> None:
    said = await verify(await delivered(KEY), [KEY, STRANGER])
    assert {tuple(line) for line in said} == {("accepted", "No matching signature found") * 2}


@pytest.mark.parametrize("verify", VERIFIERS)
async def test_during_a_rotation_the_old_key_and_the_new_one_are_accepted(verify: Verify) -> None:
    said = await verify(await delivered(f"{KEY} {OLD_KEY}"), [OLD_KEY, KEY])
    assert {tuple(line) for line in said} == {("accepted",) * 4}


@pytest.mark.parametrize("verify", VERIFIERS)
async def test_row_58_a_delivery_that_is_replayed_with_its_old_time_is_refused(verify: Verify) -> None:
    an_hour_ago = ManualClock(start=datetime.now(UTC) - timedelta(hours=1))
    async with a_receiver() as receiver, a_webhook(receiver.url) as sink:
        sink.bind(an_hour_ago, ignore, "hook")
        await sink.work(a_record(Done()))
    (recorded,) = receiver.deliveries
    assert await verify([recorded], [KEY]) == [["Message timestamp too old"] * 2]

    made_young: Mapping[str, str] = {
        **recorded.headers,
        "webhook-timestamp": str(int(datetime.now(UTC).timestamp())),
    }
    changed = Delivery(recorded.method, recorded.path, made_young, recorded.body, [])
    assert await verify([changed], [KEY]) == [["No matching signature found"] * 2]
