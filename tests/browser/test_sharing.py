"""All tabs of a browser share one connection, and each hears its own story whole."""

import pytest
from playwright.async_api import Browser

from relay.events import Log
from relay.journal import Retention
from tests.browser.house import open_house
from tests.browser.proxy import open_proxy
from tests.browser.watcher import NO_WORKER, agree, lines, only, tabs

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ways = pytest.mark.parametrize("script", [pytest.param("", id="worker"), pytest.param(NO_WORKER, id="locks")])


@ways
async def test_seven_tabs_hear_everything_on_one_connection_whenever_they_came(browser: Browser, script: str) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, script) as some:
        house.play("happy", "gap")
        early = [await some.open(proxy) for _ in range(3)]
        for tab in early:
            await tab.watch()
        await house.clock.advance(20)
        late = [await some.open(proxy) for _ in range(4)]
        for tab in late:
            await tab.watch()
            await tab.heard(house.relay.journal.head)
        await house.clock.advance(60)
        for tab in early + late:
            await tab.heard(house.relay.journal.head)
            assert await tab.story() == lines(house.relay)
        assert await only(house.server, 1) == 1


@ways
async def test_when_the_tab_that_came_first_closes_the_other_goes_on(browser: Browser, script: str) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, script) as some:
        [job] = house.play("never-finishes")
        first, second = await some.open(proxy), await some.open(proxy)
        await first.watch()
        await first.heard(house.relay.journal.head)
        await second.watch()
        await second.heard(house.relay.journal.head)
        await first.page.close()
        for number in range(20):
            house.relay.bus.publish(job, Log(line=f"after the first tab, {number}"))
        await house.clock.advance(20)
        await second.heard(house.relay.journal.head)
        assert await second.story() == lines(house.relay)
        assert await second.notices() == []
        assert await only(house.server, 1) == 1
        await second.page.close()
        assert await only(house.server, 0) == 0


_LEAVE = """
(name) => dispatchEvent(new PageTransitionEvent(name, { persisted: true }))
"""


@ways
async def test_a_page_that_is_left_holds_no_connection_and_goes_on_when_it_is_restored(
    browser: Browser, script: str
) -> None:
    """The browser may keep a page, to go back to it; its events are dispatched here, since not every page is kept."""
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, script) as some:
        [job] = house.play("never-finishes")
        tab = await some.open(proxy)
        await tab.watch()
        await agree(tab, house.relay)
        await tab.page.evaluate(_LEAVE, "pagehide")
        assert await only(house.server, 0) == 0
        for number in range(20):
            house.relay.bus.publish(job, Log(line=f"meanwhile, {number}"))
        await tab.page.evaluate(_LEAVE, "pageshow")
        await agree(tab, house.relay)
        assert await tab.notices() == []


@ways
async def test_a_tab_hears_of_its_own_jobs_alone(browser: Browser, script: str) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, script) as some:
        jobs = house.play("happy", "gap", "violation")
        watching = []
        for job in jobs:
            tab = await some.open(proxy)
            await tab.watch([job.id])
            watching.append(tab)
        await house.clock.advance(60)
        for job, tab in zip(jobs, watching, strict=True):
            await tab.is_in("ended")
            assert await tab.story() == lines(house.relay, job.id)
        assert await only(house.server, 0) == 0


async def test_where_the_past_is_gone_a_newcomer_is_told_and_who_was_there_loses_nothing(browser: Browser) -> None:
    async with open_house(keep=Retention(records=30)) as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes")
        first, second = await some.open(proxy), await some.open(proxy)
        await first.watch()
        for number in range(40):
            house.relay.bus.publish(job, Log(line=f"before, {number}"))
            await first.heard(house.relay.journal.head)
        heard = await first.story()
        await second.watch()
        snapshot = await second.was_told("snapshot")
        assert [one["job"] for one in snapshot["jobs"]] == [job.id]
        for number in range(5):
            house.relay.bus.publish(job, Log(line=f"after, {number}"))
        await first.heard(len(heard) + 5)
        await second.heard(5)
        after = lines(house.relay)[-5:]
        assert await first.story() == heard + after
        assert await first.notices() == []
        assert await second.story() == after
        assert await only(house.server, 1) == 1


async def test_where_a_page_may_start_no_worker_its_tabs_share_all_the_same(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        proxy.policy += "; worker-src 'none'"
        house.play("happy")
        first, second = await some.open(proxy), await some.open(proxy)
        await first.watch()
        await second.watch()
        await house.clock.advance(60)
        for tab in (first, second):
            await tab.heard(house.relay.journal.head)
            assert await tab.story() == lines(house.relay)
        assert await only(house.server, 1) == 1
