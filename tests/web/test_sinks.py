"""The level of a sink of a running relay, for a limited time."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession

from relay import Record, Relay, SinkOptions
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from tests.web.serving import serve


class House:
    """A relay of one job that stays at 42 %, whose sink `console` has the level `info`."""

    def __init__(self, client: ClientSession, clock: ManualClock, levels: list[str]) -> None:
        self.client = client
        self._clock = clock
        self._levels = levels

    async def post(self, name: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.client.post(f"/v1/sinks/{name}", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def received(self, seconds: float) -> set[str]:
        """The levels of the records that the sink gets in so many seconds."""
        self._levels.clear()
        await self._clock.advance(seconds)
        return set(self._levels)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock, levels = ManualClock(), list[str]()

    def console(record: Record) -> None:
        levels.append(record.event.level)

    async with ScriptedUpstream(clock=clock, scenario="never-finishes") as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        options = SinkOptions(sink=console, level="info", name="console")
        async with Relay([sora], sinks=[options], clock=clock) as relay, serve(relay) as client:
            relay.follow("sora", upstream.add_task())
            house = House(client, clock, levels)
            assert await house.received(20) == {"info"}
            assert await house.received(5) == set()
            yield house


async def test_a_sink_gets_every_poll_for_the_time_and_news_alone_after_it(house: House) -> None:
    status, state = await house.post("console", {"level": "debug", "for": "10s"})

    assert (status, state["name"], state["level"], state["for"]) == (200, "console", "debug", 10.0)
    assert await house.received(9) == {"debug"}
    await house.received(3)
    assert await house.received(10) == set()


async def test_without_a_time_it_is_for_ten_minutes_and_a_number_is_in_seconds(house: House) -> None:
    assert (await house.post("console", {"level": "debug"}))[1]["for"] == 600.0
    assert (await house.post("console", {"level": "error", "for": 5}))[1]["for"] == 5.0


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"level": "loud"}, "does not fit"),
        ({"level": "debug", "for": "soon"}, 'text such as "90s"'),
        ({"level": "debug", "for": "25h"}, "a day at most"),
        ({"level": "debug", "for": 0}, "more than 0 seconds"),
        ({"level": "debug", "for": -1.5}, "more than 0 seconds"),
        ({"level": "debug", "for": 1e300}, "a day at most"),
        ({"level": "debug", "for": "1" * 1_000 + "s"}, "does not fit"),
        ({"level": "debug", "until": 5}, "does not fit"),
        ({}, "does not fit"),
        ([], "does not fit"),
    ],
)
async def test_a_level_or_a_time_that_cannot_be_is_a_problem_and_changes_nothing(
    body: Any, detail: str, house: House
) -> None:
    status, problem = await house.post("console", body)

    assert (status, problem["status"]) == (400, 400)
    assert detail in problem["detail"]
    assert await house.received(10) == set()


async def test_an_unknown_sink_is_404(house: House) -> None:
    status, problem = await house.post("consle", {"level": "debug"})

    assert status == 404
    assert problem["detail"] == "no sink 'consle' is known here; GET /v1/sinks lists those that are"


async def test_a_page_of_another_origin_can_change_no_sink(house: House) -> None:
    assert (await house.post("console", {"level": "debug"}, Origin="https://elsewhere.example"))[0] == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with house.client.post("/v1/sinks/console", data=b'{"level":"debug"}', headers=form) as response:
        assert response.status == 415
    assert await house.received(10) == set()
