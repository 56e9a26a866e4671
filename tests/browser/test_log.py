"""The page's log: it follows the newest line, and a filter shows the lines of the journal, not of the page alone."""

import pytest
from playwright.async_api import expect

from relay.events import Log
from relay.journal import Retention
from tests.browser.house import House, open_house
from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

KEPT_LINES = 2_000
"""How many lines the page keeps (log.js)."""


def publish(house: House, first: int, last: int) -> str:
    """Publish a line for each number from *first* to *last*, and return the text of the last one."""
    [job] = house.relay.jobs()
    for number in range(first, last + 1):
        house.relay.bus.publish(job, Log(line=f"line {number}"))
    return f"line {last}"


async def test_the_log_follows_the_newest_line_also_beyond_the_lines_that_it_keeps(visitor: Visit) -> None:
    async with open_house() as house:
        house.play("never-finishes")
        await house.clock.advance(20)
        publish(house, 1, KEPT_LINES + 500)
        await visitor.open(house)
        newest = visitor.page.locator("#lines [data-seq]").last
        await expect(newest.locator(".text")).to_have_text(f"line {KEPT_LINES + 500}")
        for last in range(KEPT_LINES + 501, KEPT_LINES + 1_401, 100):
            text = publish(house, last, last + 99)
            await expect(newest.locator(".text")).to_have_text(text)
            await expect(newest).to_be_in_viewport()
            await expect(visitor.page.locator("#newest")).to_be_hidden()
        await expect(visitor.lines).to_have_count(KEPT_LINES)


async def test_a_job_that_failed_long_ago_is_shown_by_its_filter_and_by_its_level(visitor: Visit) -> None:
    async with open_house() as house:
        [failed] = house.play("violation")
        await house.clock.advance(60)
        [busy] = house.play("never-finishes")
        await house.clock.advance(20)
        for number in range(2 * KEPT_LINES):
            house.relay.bus.publish(busy, Log(line=f"line {number}"))
        await visitor.open(house)
        await expect(visitor.lines.last.locator(".text")).to_have_text(f"line {2 * KEPT_LINES - 1}")

        await visitor.card(failed.id).locator(".focus").click()
        printed = await house.printed()
        story = [line for line in printed if line.job == failed.id]
        await expect(visitor.lines).to_have_count(len(story))
        assert await visitor.log() == story

        await visitor.page.locator("#show-all").click()
        await expect(visitor.lines).to_have_count(KEPT_LINES)
        assert await visitor.log() == printed[-KEPT_LINES:]

        await visitor.page.locator("#level").select_option("warning")
        await expect(visitor.lines).to_have_count(1)
        assert await visitor.log() == story[-1:]
        await expect(visitor.page.locator("#quiet")).to_be_hidden()


async def test_what_is_published_while_a_filter_is_being_read_is_shown_once_and_in_order(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await house.clock.advance(20)
        await visitor.open(house)
        await visitor.caught_up(house)
        for turn in range(5):
            await visitor.page.locator("#level").select_option("info" if turn % 2 else "debug")
            for number in range(100):
                house.relay.bus.publish(job, Log(line=f"turn {turn}, line {number}"))
        await expect(visitor.lines).to_have_count(house.relay.journal.head)
        assert await visitor.log() == await house.printed()


async def test_a_filter_that_nothing_matches_says_so(visitor: Visit) -> None:
    async with open_house() as house:
        house.play("never-finishes")
        await house.clock.advance(20)
        await visitor.open(house)
        await visitor.caught_up(house)
        await visitor.page.locator("#level").select_option("warning")
        await expect(visitor.page.locator("#quiet")).to_have_text("No line matches.")
        await expect(visitor.lines).to_have_count(0)


async def test_a_page_that_comes_when_the_past_is_gone_shows_what_is_kept(visitor: Visit) -> None:
    async with open_house(keep=Retention(records=50)) as house:
        house.play("never-finishes")
        await house.clock.advance(20)
        publish(house, 1, 100)
        await visitor.open(house)
        await expect(visitor.lines).to_have_count(50)
        assert await visitor.log() == (await house.printed())[-50:]
        await expect(visitor.page.locator("#lines .note")).to_have_text(
            ["", "What was said before is no longer kept. Each job is shown as it stands."]
        )
