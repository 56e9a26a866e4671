"""A real browser behind proxies that name their users: the login of the page is that of its streams."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from relay.events import Log
from tests.proxies.login import EACH, SUBJECT, logged_in
from tests.proxies.proxies import Proxy
from tests.proxies.site import Behind
from tests.proxies.test_browser import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def profile(browser: Browser, house: Behind, session: str | None) -> AsyncGenerator[BrowserContext]:
    """A browser of its own, with the cookie that the login service would have set."""
    context = await browser.new_context(ignore_https_errors=True)
    try:
        if session is not None:
            await context.add_cookies([{"name": "session", "value": session, "url": house.site.url}])
        yield context
    finally:
        await context.close()


@pytest.mark.parametrize("proxy", EACH)
async def test_an_eventsource_goes_on_across_renewals_and_ends_with_its_login(
    browser: Browser, tmp_path: Path, proxy: Proxy
) -> None:
    async with (
        logged_in(proxy, tmp_path, renew=0.2) as (house, login),
        profile(browser, house, "ann") as context,
    ):
        job = house.relay.registry.admit(owner=SUBJECT)
        house.relay.bus.publish(job, Log(line="line 1"))
        tab = Tab(await context.new_page())
        await tab.page.expose_function("tell", tab.tell)
        await tab.page.goto(f"{house.site.url}/static/favicon.svg")
        await tab.listen("/v1/events")
        await tab.hears("bye", 2)
        house.relay.bus.publish(job, Log(line="line 2"))
        await tab.hears("log", 2)
        login.sessions.clear()
        await tab.hears("closed")

        records = [record.json.decode() for record in house.relay.journal.read(0)]
        assert [event["data"] for event in tab.heard if event["type"] == "log"] == records
        assert {event["type"] for event in tab.heard} == {"log", "bye", "closed"}


@pytest.mark.parametrize("proxy", EACH)
async def test_the_page_of_a_user_shows_their_jobs_and_a_stranger_is_led_to_the_login(
    browser: Browser, tmp_path: Path, proxy: Proxy
) -> None:
    async with (
        logged_in(proxy, tmp_path) as (house, _),
        profile(browser, house, "ann") as anns,
        profile(browser, house, None) as nobodys,
    ):
        for owner, line in ((SUBJECT, "of ann"), ("proxy:bob@example.com", "of bob")):
            house.relay.bus.publish(house.relay.registry.admit(owner=owner), Log(line=line))
        page, stranger = await anns.new_page(), await nobodys.new_page()
        await page.goto(house.site.url)
        await expect(page.locator("#lines [data-seq] .text")).to_have_text(["of ann"])
        await stranger.goto(house.site.url)
        await expect(stranger.get_by_text("log in here")).to_be_visible()

        assert stranger.url.endswith("/oauth2/sign_in?rd=/")
