"""Pages of other origins: those that the relay lists use it with tokens and tickets, all others not at all."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page

from relay.events import Log
from tests.browser.elsewhere import plain_page, served
from tests.browser.house import House, open_house
from tests.browser.native import open_native
from tests.browser.watcher import FAST, Watcher, agree
from tests.web.access.keys import ANN, SETTINGS, bearer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SECURE = "https://relay.example"
"""What makes cookies `Secure`; Chromium takes these of 127.0.0.1 over http as well."""

_FETCH = """
async ([url, headers]) => {
  try {
    const response = await fetch(url, { headers });
    return [response.status, await response.text()];
  } catch (error) {
    return [0, error.name];
  }
}
"""


class Scene(NamedTuple):
    house: House
    context: BrowserContext
    page: Page
    relay: str

    async def ticket(self, _: int = 0) -> str:
        """What the server of the page answers it with."""
        async with (
            aiohttp.ClientSession(self.house.server.url, headers=bearer(ANN)) as server,
            server.post("v1/tickets", json={}) as response,
        ):
            assert response.status == 201
            return str((await response.json())["ticket"])


@asynccontextmanager
async def scene(
    browser: Browser, *, listed: bool = True, foreign_site: bool = False, **options: Any
) -> AsyncGenerator[Scene]:
    """A page of another origin, and with *foreign_site* of another site."""
    async with served(plain_page()) as address:
        origin = address.replace("127.0.0.1", "localhost") if foreign_site else address
        origins = {origin} if listed else {"https://shop.example"}
        async with open_house(access=SETTINGS, origins=origins, **options) as house:
            context = await browser.new_context()
            try:
                page = await context.new_page()
                await page.goto(origin)
                yield Scene(house, context, page, house.server.url.rstrip("/"))
            finally:
                await context.close()


async def watch(here: Scene, **options: str) -> Watcher:
    """Open a stream of the client, which the page loads from the relay."""
    await here.page.evaluate("options => { window.proof = { ...window.proof, ...options } }", options)
    tab = Watcher(here.page, f"{here.relay}/static/relay.js")
    await tab.watch(timing=FAST)
    return tab


async def test_a_page_of_a_listed_origin_reads_with_a_token(browser: Browser) -> None:
    async with scene(browser, foreign_site=True) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        await here.page.evaluate("token => { window.proof = { token } }", ANN)
        tab = await watch(here)
        await agree(tab, here.house.relay)
        status, body = await here.page.evaluate(_FETCH, [f"{here.relay}/v1/jobs/{job.id}", bearer(ANN)])
        assert (status, job.id in body) == (200, True)


async def test_a_page_of_another_origin_gets_nothing_even_with_a_token(browser: Browser) -> None:
    async with scene(browser, listed=False, foreign_site=True) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        url = f"{here.relay}/v1/jobs/{job.id}"
        assert await here.page.evaluate(_FETCH, [url, bearer(ANN)]) == [0, "TypeError"]
        assert await here.page.evaluate(_FETCH, [url, {}]) == [0, "TypeError"]
        native = await open_native(here.page, f"{here.relay}/v1/events?ticket={await here.ticket()}", credentials=True)
        await native.closed()
        assert (await native.story(), await native.notices()) == ([], [])


async def test_with_cookies_one_ticket_lasts_for_all_connections_of_the_client(browser: Browser) -> None:
    async with scene(browser, max_age=0.2) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        asked = await Watcher(here.page).proves_itself(here.ticket, kind="ticket")
        tab = await watch(here, credentials="include")
        for number in range(4):
            await tab.was_told_often("bye", number)
            here.house.relay.bus.publish(job, Log(line=f"{number}"))
        await agree(tab, here.house.relay)
        assert asked == [{"jobs": None, "fresh": False}]


async def test_without_cookies_the_client_gets_a_ticket_for_each_connection(browser: Browser) -> None:
    async with scene(browser, foreign_site=True, max_age=0.2) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        asked = await Watcher(here.page).proves_itself(here.ticket, kind="ticket")
        tab = await watch(here)
        for number in range(4):
            await tab.was_told_often("bye", number)
            here.house.relay.bus.publish(job, Log(line=f"{number}"))
        await agree(tab, here.house.relay)
        assert len(asked) >= 4
        assert {*await tab.states()} == {"connecting", "live"}


async def test_cookies_that_the_browser_does_not_keep_cost_a_request_and_no_record(browser: Browser) -> None:
    """Over http no cookie may be for a page of another site."""
    async with scene(browser, foreign_site=True, max_age=0.2) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        asked = await Watcher(here.page).proves_itself(here.ticket, kind="ticket")
        tab = await watch(here, credentials="include")
        for number in range(3):
            await tab.was_told_often("bye", number)
            here.house.relay.bus.publish(job, Log(line=f"{number}"))
        await agree(tab, here.house.relay)
        assert len(asked) >= 3
        assert "denied" not in await tab.states()


@pytest.mark.parametrize("foreign_site", [False, True], ids=["same site", "another site"])
async def test_an_event_source_on_a_listed_page_goes_on_with_its_ticket(foreign_site: bool, browser: Browser) -> None:
    async with scene(browser, foreign_site=foreign_site, max_age=0.2, public_url=SECURE) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")
        native = await open_native(here.page, f"{here.relay}/v1/events?ticket={await here.ticket()}", credentials=True)
        for opened in range(1, 5):
            await native.opened(opened)
            here.house.relay.bus.publish(job, Log(line=f"opened {opened} times"))
        await agree(native, here.house.relay)


async def test_an_event_source_that_sends_no_cookies_ends_when_it_comes_back(browser: Browser) -> None:
    async with scene(browser, foreign_site=True, max_age=0.2, public_url=SECURE) as here:
        here.house.play("never-finishes", owner="key:ann")
        native = await open_native(here.page, f"{here.relay}/v1/events?ticket={await here.ticket()}")
        await native.was_told("bye")
        await native.closed()
