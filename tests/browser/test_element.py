"""<relay-progress>: one job's progress on anybody's page of the same origin."""

import pytest
from playwright.async_api import Browser, Page, expect

from relay import Done
from relay.journal import Retention
from tests.browser.house import open_house
from tests.browser.proxy import open_proxy
from tests.browser.visit import Visit
from tests.browser.watcher import lines, only, tabs

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_ADD = """
all => document.querySelector("main").append(...all.map((attributes) => {
  const made = document.createElement("relay-progress");
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}))
"""

_POLICY_BROKEN = "addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))"


async def add(page: Page, *elements: dict[str, str]) -> None:
    """Put an element with each of these sets of attributes into the page."""
    await page.evaluate(_ADD, list(elements))


async def test_an_element_shows_its_job_to_the_end_and_then_needs_no_connection(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, _POLICY_BROKEN) as some:
        [job] = house.play("happy")
        page = (await some.open(proxy)).page
        visit = Visit(page)
        await add(page, {"job": job.id, "label": "A cat on a ladder", "cancellable": ""})
        element = page.locator("relay-progress")
        await expect(element.locator("[part=label]")).to_have_text("A cat on a ladder")
        await expect(element.locator("[part=status]")).to_have_text("queued")
        bar = page.get_by_role("progressbar", name="Progress of A cat on a ladder")
        await expect(bar).not_to_have_attribute("value", "0")
        await house.clock.advance(30)
        await expect(element.locator("[part=text]")).to_have_text(job.state.text)
        await expect(element.locator("[part=percent]")).to_have_text(f"{job.state.percent}%")
        await expect(bar).to_have_js_property("value", job.state.percent)
        await expect(element).to_have_attribute("status", "running")
        await house.clock.advance(60)
        assert isinstance(job.state.terminal, Done)
        await expect(element).to_have_attribute("status", "succeeded")
        await expect(element.get_by_role("button")).to_be_hidden()
        await expect(element.get_by_role("link")).to_have_text(["Result 1"])
        await expect(element.get_by_role("link")).to_have_attribute("href", job.state.terminal.urls[0])
        assert await only(house.server, 0) == 0
        await page.reload()
        await add(page, {"job": job.id})
        await expect(element.locator("[part=text]")).to_have_text(job.state.text)
        await expect(element.get_by_role("link")).to_have_text(["Result 1"])
        assert visit.complaints == []


async def test_seven_elements_and_a_stream_share_one_connection_and_cancelling_works_at_once(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        jobs = house.play(*["never-finishes"] * 7)
        tab = await some.open(proxy)
        await add(tab.page, *[{"job": job.id, "cancellable": ""} for job in jobs])
        await tab.watch()
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        for job in jobs:
            await tab.page.get_by_role("button", name=f"Cancel {job.id}").click()
            await expect(tab.page.locator(f"relay-progress[job={job.id}]")).to_have_attribute("status", "cancelled")
        assert all(job.ended for job in jobs)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert await only(house.server, 1) == 1


async def test_an_element_says_so_where_its_job_is_not_known(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        tab = await some.open(proxy)
        await tab.watch()
        await add(tab.page, {"job": "job_nobody_knows", "cancellable": ""})
        element = tab.page.locator("relay-progress")
        await expect(element.locator("[part=text]")).to_have_text("The relay does not know this job.")
        await expect(element).to_have_attribute("status", "unknown")
        await expect(element.get_by_role("button")).to_be_hidden()


async def test_an_element_whose_job_is_old_news_shows_its_end_with_its_results(browser: Browser) -> None:
    async with open_house(keep=Retention(records=40)) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("happy")
        await house.clock.advance(60)
        page = (await some.open(proxy)).page
        await add(page, {"job": job.id})
        await expect(page.locator("relay-progress [part=text]")).to_have_text(job.state.text)
        await expect(page.locator("relay-progress").get_by_role("link")).to_have_text(["Result 1"])


async def test_a_job_that_is_named_later_replaces_the_one_before_and_a_removed_element_lets_go(
    browser: Browser,
) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        first, second = house.play("happy", "never-finishes")
        page = (await some.open(proxy)).page
        await add(page, {})
        element = page.locator("relay-progress")
        await element.evaluate("(element, job) => element.setAttribute('job', job)", first.id)
        await house.clock.advance(15)
        await expect(element.locator("[part=text]")).to_have_text(first.state.text)
        await element.evaluate("(element, job) => element.setAttribute('job', job)", second.id)
        await expect(element.locator("[part=label]")).to_have_text(second.id)
        await house.clock.advance(15)
        await expect(element.locator("[part=text]")).to_have_text(second.state.text)
        await element.evaluate("element => element.remove()")
        assert await only(house.server, 0) == 0


async def test_an_upstreams_address_that_is_none_of_the_web_is_no_link(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes")
        page = (await some.open(proxy)).page
        await add(page, {"job": job.id})
        house.relay.bus.publish(job, Done(urls=("javascript:document.title='owned'", "https://files.example/a.mp4")))
        results = page.locator("relay-progress [part=results] a")
        await expect(results).to_have_text(["Result 1", "Result 2"])
        hrefs = await results.evaluate_all("all => all.map(one => one.getAttribute('href'))")
        assert hrefs == [None, "https://files.example/a.mp4"]


async def test_a_page_styles_the_element_through_its_parts(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes")
        page = (await some.open(proxy)).page
        await page.evaluate(
            "() => { const sheet = new CSSStyleSheet(); document.adoptedStyleSheets = [sheet];"
            " sheet.replaceSync('relay-progress::part(text) { color: rgb(1, 2, 3) }') }"
        )
        await add(page, {"job": job.id})
        await expect(page.locator("relay-progress [part=text]")).to_have_css("color", "rgb(1, 2, 3)")
