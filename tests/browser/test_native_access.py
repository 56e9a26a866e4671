"""A browser's own EventSource, which can send no header: by a session's cookie, and by a ticket in its address."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page

from relay.events import Log
from tests.browser.house import House, life, open_house
from tests.browser.native import open_native, plain
from tests.browser.watcher import agree, lines
from tests.web.access.keys import ANN, SETTINGS, bearer
from web.access.guard import GUARD

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

Way = Callable[[Page, House, int], Awaitable[str]]


async def signed_in(page: Page, house: House, ttl: int) -> str:
    """Exchange the token for a cookie; the address of the stream names nothing."""
    status = await page.evaluate(
        "async (headers) => (await fetch('/v1/session', { method: 'POST', headers })).status", bearer(ANN)
    )
    assert status == 200
    return "/v1/events"


async def with_ticket(page: Page, house: House, ttl: int) -> str:
    """Have the application's server fetch a ticket, which the address of the stream names."""
    async with (
        aiohttp.ClientSession(house.server.url, headers=bearer(ANN)) as server,
        server.post("v1/tickets", json={"ttl": ttl}) as response,
    ):
        assert response.status == 201
        return f"/v1/events?ticket={(await response.json())['ticket']}"


ways = pytest.mark.parametrize("way", [pytest.param(signed_in, id="cookie"), pytest.param(with_ticket, id="ticket")])


@ways
async def test_an_event_source_goes_on_across_a_restart_and_renewals_of_the_relay(
    way: Way, browser: Browser, tmp_path: Path
) -> None:
    journal = tmp_path / "relay.db"
    async with open_house(access=SETTINGS) as house, await browser.new_context() as context:
        async with life(house, journal) as relay:
            mine = relay.follow("sora", house.upstream.add_task("never-finishes"), owner="key:ann")
            relay.follow("sora", house.upstream.add_task("happy"), owner="key:bob")
            page = await plain(await context.new_page(), house)
            native = await open_native(page, await way(page, house, 3_600))
            await native.heard(len(lines(relay, mine.id)))
        house.server.options["max_age"] = 0.2
        async with life(house, journal) as relay:
            job = relay.job(mine.id)
            for opened in range(2, 6):
                await native.opened(opened)
                relay.bus.publish(job, Log(line=f"the stream was opened {opened} times"))
            await house.clock.advance(20)
            await agree(native, relay, mine.id)
        assert {notice["type"] for notice in await native.notices()} == {"bye"}
        assert len({request.url for request in native.requests}) == 1


@ways
async def test_the_address_of_a_stream_is_worth_nothing_elsewhere(way: Way, browser: Browser) -> None:
    async with (
        open_house(access=SETTINGS) as house,
        await browser.new_context() as context,
        await browser.new_context() as other,
    ):
        [job] = house.play("never-finishes", owner="key:ann")
        page = await plain(await context.new_page(), house)
        address = await way(page, house, 3_600)
        native = await open_native(page, address)
        await native.heard(len(lines(house.relay)))
        thief = await open_native(await plain(await other.new_page(), house), address)
        await thief.closed()
        assert await thief.story() == []
        async with (
            aiohttp.ClientSession(headers={"Accept": "text/event-stream"}) as session,
            session.get(house.server.url.rstrip("/") + address) as response,
        ):
            assert response.status in (204, 401)
            assert job.id not in await response.text()
        house.relay.bus.publish(job, Log(line="goes on"))
        await agree(native, house.relay)


@ways
async def test_an_access_that_ends_in_mid_stream_ends_the_event_source(way: Way, browser: Browser) -> None:
    settings = replace(SETTINGS, session_for=1.0)
    async with open_house(access=settings) as house, await browser.new_context() as context:
        [job] = house.play("never-finishes", owner="key:ann")
        page = await plain(await context.new_page(), house)
        native = await open_native(page, await way(page, house, 1))
        assert await native.was_told("expiring") == {"type": "expiring", "expires": "2026-01-01T00:00:01Z"}
        # The stream has its own second to go; whatever comes back is judged by the relay's clock.
        await house.clock.advance(5)
        assert await native.was_told("denied") == {
            "type": "denied",
            "reason": "the access to this stream has expired",
        }
        house.relay.bus.publish(job, Log(line="not for them any more"))
        await native.closed()
        assert "not for them any more" not in str(await native.story())
        assert [(await request.response()).status for request in native.requests] == [200, 204]  # type: ignore[union-attr]


async def test_a_session_that_is_revoked_ends_the_event_source(browser: Browser) -> None:
    async with open_house(access=SETTINGS) as house, await browser.new_context() as context:
        house.play("never-finishes", owner="key:ann")
        page = await plain(await context.new_page(), house)
        native = await open_native(page, await signed_in(page, house, 0))
        await native.heard(1)
        house.server.app[GUARD].revoke(subject="key:ann")
        assert await native.was_told("denied") == {
            "type": "denied",
            "reason": "the access to this stream was withdrawn",
        }
        await native.closed()
        assert [(await request.response()).status for request in native.requests] == [200, 204]  # type: ignore[union-attr]
