"""The page shows the sinks while one of them is in trouble, or if its address wants them."""

import pytest
from playwright.async_api import expect

from relay import Log, Record
from tests.browser.house import open_house
from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def raises(record: Record) -> None:
    raise ValueError("no")


raises.__qualname__ = "hook<b>"


async def test_no_sink_is_shown_while_all_of_them_work(visitor: Visit) -> None:
    async with open_house() as house:
        async with visitor.page.expect_response("**/v1/sinks") as looked:
            await visitor.open(house)
        assert (await looked.value).status == 200
        await expect(visitor.page.locator("#sinks")).to_be_hidden()


async def test_a_sink_that_is_set_aside_is_shown_with_all_others_as_text(visitor: Visit) -> None:
    async with open_house() as house:
        await house.relay.add_sink(raises)
        [job] = house.play("never-finishes")
        for number in range(6):
            house.relay.bus.publish(job, Log(line=f"{number}"))
        await visitor.open(house)
        rows = visitor.page.get_by_role("table", name="Sinks").get_by_role("row")
        await expect(rows).to_have_count(1 + len(house.relay.sinks))
        bad = visitor.page.locator("#sinks .bad")
        await expect(bad.get_by_role("rowheader")).to_have_text("hook<b>")
        await expect(bad.get_by_role("cell").first).to_have_text("set aside")
        assert await bad.get_by_role("cell").last.text_content() == str(house.relay.sinks[-1].status().failed)


async def test_the_address_may_want_the_sinks(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house, "?sinks")
        await expect(visitor.page.locator("#sinks tbody tr")).to_have_count(len(house.relay.sinks))
        await expect(visitor.page.locator("#sinks .bad")).to_have_count(0)
