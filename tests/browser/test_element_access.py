"""<relay-progress> with a token or a ticket, which are properties."""

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from tests.browser.house import House, open_house
from tests.browser.proxy import Proxy, open_proxy
from tests.browser.watcher import Tabs, Watcher, lines, only, tabs
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

EMPTY = """<!doctype html><title>A page that loads the module later</title><main></main>"""

_ADD = """
async ([job, proof]) => {
  const element = Object.assign(document.createElement("relay-progress"), window[proof] ?? {});
  element.setAttribute("job", job);
  document.querySelector("main").append(element);
  await import("/static/relay.js");
}
"""


async def empty_page(some: Tabs, proxy: Proxy) -> Watcher:
    """A page on which no element is defined yet."""
    page = await some.context.new_page()
    await page.route("**/empty", lambda route: route.fulfill(body=EMPTY, content_type="text/html"))
    await page.goto(f"{proxy.url}empty")
    return Watcher(page)


async def ticket(house: House, job: str) -> str:
    """A ticket for *job*, as the application's server gets it."""
    async with (
        aiohttp.ClientSession(house.server.url, headers=bearer(ANN)) as server,
        server.post("v1/tickets", json={"jobs": [job]}) as response,
    ):
        assert response.status == 201
        return str((await response.json())["ticket"])


async def test_an_element_uses_the_token_that_was_set_before_it_was_defined_and_the_one_that_is_set_later(
    browser: Browser,
) -> None:
    async with open_house(access=SETTINGS) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("happy", owner="key:ann")
        page = (await empty_page(some, proxy)).page
        await page.evaluate("token => { window.proof = { token } }", f"{BOB}-wrong")
        await page.evaluate(_ADD, [job.id, "proof"])
        element = page.locator("relay-progress")
        text = element.locator("[part=text]")
        await expect(text).to_have_text("This page may not follow this job, or no longer.")
        await expect(element).to_have_attribute("denied", "")
        await element.evaluate("(element, token) => { element.token = token }", ANN)
        await house.clock.advance(60)
        await expect(text).to_have_text(job.state.text)
        await expect(element).not_to_have_attribute("denied", "")
        await expect(element).to_have_attribute("status", "succeeded")
        assert ANN not in await page.content()


async def test_a_job_of_somebody_else_is_shown_as_unknown(browser: Browser) -> None:
    async with open_house(access=SETTINGS) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes", owner="key:ann")
        page = (await empty_page(some, proxy)).page
        await page.evaluate("token => { window.proof = { token } }", BOB)
        await page.evaluate(_ADD, [job.id, "proof"])
        await expect(page.locator("relay-progress [part=text]")).to_have_text("The relay does not know this job.")


async def test_an_element_follows_its_job_with_tickets_alone(browser: Browser) -> None:
    async with open_house(access=SETTINGS) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("happy", owner="key:ann")
        tab = await empty_page(some, proxy)

        async def give(_: int) -> str:
            return await ticket(house, job.id)

        asked = await tab.proves_itself(give, kind="ticket")
        await tab.page.evaluate(_ADD, [job.id, "proof"])
        element = tab.page.locator("relay-progress")
        await house.clock.advance(60)
        await expect(element).to_have_attribute("status", "succeeded")
        await expect(element.locator("[part=text]")).to_have_text(lines(house.relay)[-1].text)
        assert all(how["jobs"] == [job.id] for how in asked)
        assert await only(house.server, 0) == 0


async def test_a_ticket_that_opens_nothing_is_said_to_be_the_reason(browser: Browser) -> None:
    async with open_house(access=SETTINGS) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes", owner="key:ann")
        tab = await empty_page(some, proxy)
        refusal = await tab.page.evaluate(
            """async (job) => {
              const { show } = await import("/static/relay.js");
              const how = { ticket: () => "rlt_wrong" };
              return show(job, how).catch(({ message, status }) => [message, status]);
            }""",
            job.id,
        )
        assert refusal == ["the relay does not accept this ticket", 401]
