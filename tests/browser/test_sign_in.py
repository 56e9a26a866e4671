"""The page where access is configured: a token becomes a session, and what the session does not allow is not there."""

import aiohttp
import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, Request, expect

from relay.config.access_settings import KeySettings
from relay.events import Log
from relay.secret import Secret
from tests.browser.house import House, open_house
from tests.browser.visit import Visit, visit
from tests.browser.watcher import lines
from tests.web.access.keys import ANN, OPERATOR, READER, SETTINGS
from web.access.guard import GUARD

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WRONG = "rlk_wrong-0123456789-0123456789-0123456"


async def sign_in(visitor: Visit, house: House, token: str) -> None:
    """Open the page as somebody who has no session yet, and sign in by the keyboard."""
    visitor.excuse("401")
    await visitor.page.goto(house.server.url)
    await enter(visitor.page, token)
    await visitor.live()


async def shows(visitor: Visit, house: House, job: str) -> None:
    """Assert that the log has the lines of *job* and no others, once it is not behind; it may go on meanwhile."""
    while await visitor.lines.count() < len(lines(house.relay, job)):
        pass
    shown = await visitor.log()
    assert shown == lines(house.relay, job)[: len(shown)]


def sent_by(page: Page) -> list[Request]:
    """The requests of *page* from now on."""
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    return requests


async def enter(page: Page, token: str) -> None:
    field = page.get_by_label("Token")
    await expect(field).to_be_focused()
    await field.fill(token)
    await page.keyboard.press("Enter")


async def test_a_page_without_a_session_shows_one_form_and_no_job(visitor: Visit) -> None:
    async with open_house(access=SETTINGS) as house:
        [job] = house.play("never-finishes")
        visitor.excuse("401")
        await visitor.page.goto(house.server.url)
        await expect(visitor.page.get_by_role("status").first).to_have_text("No access")
        await expect(visitor.page.get_by_role("main")).to_be_hidden()
        form = visitor.page.get_by_role("region", name="No access")
        await expect(form).to_contain_text("This relay shows its jobs only to those who have a token.")
        assert await visitor.page.get_by_label("Token").get_attribute("type") == "password"
        assert job.id not in await visitor.page.content()
        for token, why in [
            (WRONG, "Not signed in: this token is not valid here, or has expired"),
            ("no token \u2713", "Not signed in: this is no token"),
        ]:
            await enter(visitor.page, token)
            await expect(visitor.page.locator("#sign-in-answer")).to_have_text(why)
            await expect(visitor.page.get_by_label("Token")).to_have_value("")


async def test_who_signs_in_sees_its_own_jobs_until_it_signs_out_in_every_tab(visitor: Visit) -> None:
    async with open_house(access=SETTINGS) as house:
        [mine] = house.play("never-finishes", owner="key:ann")
        house.play("never-finishes", owner="key:bob")
        await sign_in(visitor, house, ANN)
        page = visitor.page
        await expect(page.locator(".card h3")).to_have_text([mine.id])
        await expect(page.locator("#subject")).to_have_text("key:ann")
        await house.clock.advance(20)
        other = Visit(await page.context.new_page())
        other.excuse("401")
        await other.open(house)
        for visit in (visitor, other):
            await shows(visit, house, mine.id)
        stored = "JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }, document.URL])"
        assert ANN not in await page.evaluate(stored)
        await page.get_by_role("button", name="Sign out").click()
        for one in (page, other.page):
            await expect(one.get_by_label("Token")).to_be_focused()
            assert mine.id not in await one.content()
        assert await page.context.cookies() == []
        assert other.complaints == []


async def test_a_page_offers_what_its_access_allows(browser: Browser) -> None:
    keys = (*SETTINGS.keys, KeySettings(name="writer", key=Secret(WRONG), scopes="jobs:read jobs:submit", jobs="*"))
    async with open_house(access=replace(SETTINGS, keys=keys)) as house:
        house.play("never-finishes")
        for token, offers in [
            (READER, (False, False, False)),
            (WRONG, (True, False, False)),
            (OPERATOR, (True, True, True)),
        ]:
            async with visit(browser) as visitor:
                requests = sent_by(visitor.page)
                visitor.excuse("401")
                await visitor.page.goto(f"{house.server.url}?sinks")
                await enter(visitor.page, token)
                await visitor.live()
                page = visitor.page
                await expect(page.locator(".card")).to_have_count(1)
                await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
                await expect(page.locator("#new")).to_be_visible(visible=offers[0])
                await expect(page.locator(".card .cancel")).to_be_visible(visible=offers[1])
                await expect(page.get_by_role("table", name="Sinks")).to_be_visible(visible=offers[2])
                assert any(sent.url.endswith("/v1/sinks") for sent in requests) is offers[2]
                assert visitor.complaints == []


async def test_where_the_relay_asks_nobody_the_page_asks_nobody(visitor: Visit) -> None:
    async with open_house() as house:
        async with visitor.page.expect_response("**/v1/session"):
            await visitor.open(house)
        await expect(visitor.page.locator("#new")).to_be_visible()
        await expect(visitor.page.get_by_role("button", name="Sign out")).to_be_hidden()
        await expect(visitor.page.locator("#subject")).to_have_text("")


async def test_a_session_that_ends_takes_its_jobs_from_the_page_and_another_one_goes_on(visitor: Visit) -> None:
    async with open_house(access=SETTINGS) as house:
        [job] = house.play("never-finishes", owner="key:ann")
        await sign_in(visitor, house, ANN)
        await expect(visitor.card(job.id)).to_be_visible()
        house.server.app[GUARD].revoke(subject="key:ann")
        await expect(visitor.page.get_by_label("Token")).to_be_focused()
        await expect(visitor.page.get_by_role("main")).to_be_hidden()
        await house.clock.advance(1)
        house.relay.bus.publish(job, Log(line="meanwhile"))
        await enter(visitor.page, ANN)
        await visitor.live()
        await expect(visitor.lines.last).to_contain_text("meanwhile")
        await shows(visitor, house, job.id)


async def test_a_page_says_a_minute_before_that_its_access_ends(visitor: Visit) -> None:
    async with open_house(access=replace(SETTINGS, session_for=50.0)) as house:
        house.play("never-finishes", owner="key:ann")
        await sign_in(visitor, house, ANN)
        await expect(visitor.page.locator("#lines .note").last).to_contain_text("This access ends at ")


async def test_a_page_that_is_restored_shows_nothing_of_a_session_that_has_ended(visitor: Visit) -> None:
    """The browser may keep a page, to go back to it; its events are dispatched here, since not every page is kept."""
    async with open_house(access=SETTINGS) as house:
        [job] = house.play("never-finishes", owner="key:ann")
        await sign_in(visitor, house, ANN)
        page = visitor.page
        await expect(visitor.card(job.id)).to_be_visible()
        await expect(page.locator("#subject")).to_have_text("key:ann")
        leave = "(name) => dispatchEvent(new PageTransitionEvent(name, { persisted: true }))"
        await page.evaluate(leave, "pagehide")
        await expect(page.get_by_role("main")).to_be_hidden()
        await page.context.clear_cookies()
        async with page.expect_navigation():
            await page.evaluate(leave, "pageshow")
        await expect(page.get_by_label("Token")).to_be_focused()
        assert job.id not in await page.content()


async def test_a_link_of_one_job_shows_that_job_alone_and_leaves_the_address(browser: Browser) -> None:
    async with open_house(access=SETTINGS) as house:
        async with (
            aiohttp.ClientSession(house.server.url, headers={"Authorization": f"Bearer {ANN}"}) as client,
            client.post("v1/jobs", json={"upstream": "sora", "task": house.upstream.add_task("happy")}) as response,
        ):
            created = await response.json()
        house.play("never-finishes", owner="key:ann")
        async with visit(browser) as visitor:
            page = visitor.page
            capability = created["watch"].partition("#watch=")[2]
            await page.goto(created["watch"])
            await visitor.live()
            assert page.url == house.server.url
            await expect(page.locator("#watching")).to_contain_text(f"You follow one job by a link: {created['job']}")
            await expect(page.locator(".card h3")).to_have_text([created["job"]])
            for hidden in ("#new", ".card .cancel", "#sign-out", "#sinks", "#empty"):
                await expect(page.locator(hidden)).to_be_hidden()
            await house.clock.advance(20)
            await page.reload()
            await visitor.live()
            await page.get_by_label("Level").select_option("info")
            await page.get_by_label("Level").select_option("debug")
            await house.clock.advance(60)
            story = lines(house.relay, created["job"])
            await expect(page.locator("#connection")).to_have_text("Ended")
            await expect(visitor.lines).to_have_count(len(story))
            assert await visitor.log() == story
            seen = await page.evaluate(
                "() => [document.URL, document.referrer, document.documentElement.outerHTML, document.cookie,"
                " JSON.stringify(performance.getEntries()), JSON.stringify({ ...localStorage }), history.length]"
            )
            assert [text for text in seen if capability in str(text)] == []
            other = await page.context.new_page()
            await other.goto(house.server.url)
            await expect(other.get_by_label("Token")).to_be_focused()
            visitor.excuse("401")
            await page.get_by_role("button", name="Leave this link").click()
            await expect(page.get_by_label("Token")).to_be_focused()
            assert await page.evaluate("JSON.stringify({ ...sessionStorage })") == "{}"
            assert visitor.complaints == []


async def test_a_link_that_has_expired_says_so(visitor: Visit) -> None:
    async with open_house(access=SETTINGS) as house:
        [job] = house.play("never-finishes")
        link = house.server.app[GUARD].signer.sign_watch(job.id, int(house.clock.now().timestamp()) + 60)
        await house.clock.advance(61)
        visitor.excuse("401")
        await visitor.page.goto(f"{house.server.url}#watch={link}")
        await expect(visitor.page.locator("#why")).to_have_text(
            "This link has expired, or was withdrawn. Ask for a new one."
        )
        await expect(visitor.page.get_by_role("button", name="Leave this link")).to_be_focused()
        await expect(visitor.page.get_by_label("Token")).to_be_hidden()
        # The next link may be opened in the same tab, whose address differs by its fragment alone.
        fresh = house.server.app[GUARD].signer.sign_watch(job.id, int(house.clock.now().timestamp()) + 3_600)
        await visitor.page.goto(f"{house.server.url}#watch={fresh}")
        await visitor.live()
        await expect(visitor.card(job.id)).to_be_visible()
