"""`GET /v1/sinks`: every sink, its kind, where it is, and what became of its records."""

from typing import Any

import pytest
from aiohttp import ClientSession

from relay import Log, Record, Relay, SinkOptions
from relay.testing import ManualClock
from sinks import ConsoleSink, Queued
from tests.web.serving import serve


def notify_me(record: Record) -> None: ...


def raises(record: Record) -> None:
    raise ValueError("secret")


async def listed(client: ClientSession) -> Any:
    async with client.get("/v1/sinks") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert response.headers["Cache-Control"] == "no-store"
        return await response.json()


async def test_every_sink_is_listed_in_the_order_in_which_they_were_added(tmp_path: Any) -> None:
    with (tmp_path / "out").open("w") as out:
        relay = Relay(
            [],
            sinks=[SinkOptions(sink=ConsoleSink(out), name="console", level="warning"), notify_me],
            clock=ManualClock(),
        )
        async with serve(relay) as client:
            job = relay.registry.admit()
            relay.bus.publish(job, Log(line="quiet"))
            relay.bus.publish(job, Log(line="loud", severity="warning"))
            answer = await listed(client)

    position = f"{relay.journal.epoch}-2"
    counts = {"coalesced": 0, "dropped": 0, "failed": 0, "waiting": 0, "lag": 0, "durable": False}
    slowest = [one.pop("slowest") for one in answer["sinks"]]
    assert answer == {
        "position": position,
        "sinks": [
            {
                "name": "console",
                "kind": "console",
                "level": "warning",
                "state": "closed",
                "cursor": position,
                "delivered": 1,
                **counts,
            },
            {
                "name": "notify_me",
                "kind": "notify_me",
                "level": "debug",
                "state": "closed",
                "cursor": position,
                "delivered": 2,
                **counts,
            },
        ],
    }
    assert slowest == [pytest.approx(0.0), pytest.approx(0.0)]


async def test_a_sink_in_quarantine_is_open_and_its_error_is_not_repeated() -> None:
    relay = Relay([], sinks=[raises], clock=ManualClock(), notify=lambda _: None)
    async with serve(relay) as client:
        job = relay.registry.admit()
        for number in range(7):
            relay.bus.publish(job, Log(line=f"{number}"))
        answer = await listed(client)

    (sink,) = answer["sinks"]
    assert (sink["state"], sink["failed"], sink["dropped"], sink["delivered"]) == ("open", 5, 2, 0)
    assert "secret" not in repr(answer)


async def test_records_that_wait_in_a_queue_are_its_lag() -> None:
    async def never(record: Record) -> None:
        await relay.clock.sleep(3_600.0)

    relay = Relay(
        [],
        sinks=[Queued(never, timeout=7_200.0, drain_within=0.0, name="slow")],
        clock=ManualClock(),
        notify=lambda _: None,
    )
    async with serve(relay) as client:
        job = relay.registry.admit()
        for number in range(5):
            relay.bus.publish(job, Log(line=f"{number}"))
        (sink,) = (await listed(client))["sinks"]
        await relay.sinks[0].remove()
        assert (await listed(client))["sinks"] == []

    assert (sink["waiting"], sink["lag"], sink["delivered"]) == (5, 5, 0)
