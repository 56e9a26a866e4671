"""What can be done on the page, by mouse and by keyboard."""

from typing import Any

import pytest
from playwright.async_api import Route, expect

from relay import Cancelled, Done
from relay.testing import Moment, Scenario
from tests.browser.house import Line, open_house
from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HANGS = Scenario("hangs", "holds back every answer of the account for a minute", ((0.0, Moment(delay=60.0)),))


async def test_an_empty_page_says_what_to_do(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        await expect(visitor.page.locator("#empty")).to_contain_text("Start one with New job above")
        house.play("never-finishes")
        await expect(visitor.page.locator("#empty")).to_be_hidden()
        await expect(visitor.page.locator("#counts")).to_have_text("1 queued")


async def test_a_bar_shows_the_percent_and_none_while_there_is_none(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("happy")
        await visitor.open(house)
        bar, figure = visitor.card(job.id).locator("progress"), visitor.card(job.id).locator(".percent")
        seen: list[tuple[str | None, str | None]] = []
        for _ in range(6):
            await house.clock.advance(5)
            await visitor.caught_up(house)
            seen.append((await bar.get_attribute("value"), await figure.text_content()))
        shown = [(None, ""), ("9", "9%"), ("22", "22%"), ("43", "43%"), ("57", "57%"), ("74", "74%")]
        assert seen == shown
        assert await bar.evaluate("bar => [bar.max, bar.value]") == [100, job.state.percent]


async def test_the_newest_job_is_on_top_and_the_list_shows_one_state_if_asked(visitor: Visit) -> None:
    async with open_house() as house:
        first, second, third = house.play("happy", "never-finishes", "happy")
        await visitor.open(house)
        await house.clock.advance(60)
        await visitor.caught_up(house)
        titles = visitor.page.locator(".card:visible h3")
        await expect(titles).to_have_text([third.id, second.id, first.id])
        await expect(visitor.page).to_have_title("42% - Progress relay")
        await visitor.page.get_by_label("State").select_option("running")
        await expect(titles).to_have_text([second.id])
        await visitor.page.get_by_label("State").select_option("ended")
        await expect(titles).to_have_text([third.id, first.id])


async def test_a_job_is_cancelled_from_the_keyboard_which_keeps_its_place(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        await house.clock.advance(10)
        card = visitor.card(job.id)
        await visitor.page.get_by_role("button", name=f"Cancel job {job.id}").focus()
        await visitor.page.keyboard.press("Enter")
        await expect(card.locator(".status")).to_have_text("cancelled")
        await expect(card.locator(".cancel")).to_be_hidden()
        await expect(card).to_be_focused()
        assert isinstance(job.state.terminal, Cancelled)
        await visitor.caught_up(house)
        assert (await visitor.log())[-1] == Line(
            job.id,
            job.state.seq,
            "cancelled by the caller: no longer followed; this upstream cannot be told to stop",
        )


async def test_a_cancel_that_is_refused_says_why(visitor: Visit) -> None:
    async with open_house() as house:
        house.upstream.add_task(HANGS)
        job = house.relay.submit("sora", {"prompt": "a cat"})
        await visitor.open(house)
        await visitor.card(job.id).locator(".cancel").click()
        await expect(visitor.card(job.id).get_by_role("alert")).to_have_text(
            f"Not cancelled: {job.id} is still being submitted; cancel it once it has a task"
        )
        visitor.excuse("409")
        await house.clock.advance(60)
        await expect(visitor.card(job.id).locator(".task")).to_have_text(job.state.task or "")


async def test_a_cancel_without_an_answer_says_so(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        await visitor.page.route("**/cancel", lambda route: route.abort())
        await visitor.card(job.id).locator(".cancel").click()
        alert = visitor.card(job.id).get_by_role("alert")
        await expect(alert).to_have_text("Not cancelled: the relay did not answer")
        visitor.excuse("ERR_FAILED")
        assert not job.ended


async def test_the_log_shows_one_job_or_one_level_if_asked(visitor: Visit) -> None:
    async with open_house() as house:
        first, second = house.play("happy", "unauthorised")
        await visitor.open(house)
        await house.clock.advance(60)
        await visitor.caught_up(house)
        printed = await house.printed()
        shown = visitor.page.locator("#lines [data-seq]:visible .text")

        await visitor.card(first.id).locator(".focus").click()
        await expect(shown).to_have_text([line.text for line in printed if line.job == first.id])
        await expect(visitor.page.locator("#only-job")).to_have_text(first.id)
        progress = visitor.page.locator("relay-progress")
        await expect(progress.get_by_role("progressbar", name=f"Progress of {first.id}")).to_have_attribute(
            "value", "100"
        )
        await expect(progress.get_by_role("link")).to_have_count(1)

        await visitor.page.get_by_label("Level").select_option("warning")
        warnings = [line.text for line in printed if line.job == first.id and line.text.startswith("poll failed")]
        await expect(shown).to_have_text([*warnings, "done, 1 file (video/mp4)"])

        await visitor.page.get_by_role("button", name="Show every job").click()
        await expect(shown).to_have_count(2 * len(warnings) + 2)
        await expect(progress).to_have_count(0)
        await visitor.page.get_by_label("Level").select_option("debug")
        await expect(shown).to_have_text([line.text for line in printed])
        assert second.ended


async def test_who_reads_back_in_the_log_is_left_there(visitor: Visit) -> None:
    async with open_house() as house:
        house.play("flat")
        await visitor.open(house)
        await house.clock.advance(120)
        await visitor.caught_up(house)
        view, newest = visitor.page.locator("#lines"), visitor.page.get_by_role("button", name="Newest lines")
        await expect(newest).to_be_hidden()
        await view.focus()
        await visitor.page.keyboard.press("Home")
        await expect(visitor.lines.first).to_be_in_viewport(ratio=1)
        await house.clock.advance(30)
        await visitor.caught_up(house)
        await expect(newest).to_be_visible()
        assert await view.evaluate("view => view.scrollTop") == 0
        await newest.press("Enter")
        await expect(newest).to_be_hidden()
        await expect(view).to_be_focused()
        assert await view.evaluate("view => view.scrollHeight - view.scrollTop - view.clientHeight") < 1


async def test_a_prompt_is_submitted_and_a_task_followed(visitor: Visit) -> None:
    async with open_house() as house:
        task = house.upstream.add_task("happy")
        await visitor.open(house)
        page = visitor.page
        await page.locator("summary").click()
        await page.get_by_role("combobox", name="Upstream").fill("sora")
        await page.get_by_label("Prompt", exact=True).fill("[violation] a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#answer")).to_have_text(f"Started {house.relay.jobs()[0].id}")
        await page.get_by_label("Follow a task that exists").check()
        await page.get_by_label("Task id at the upstream").fill(task)
        await page.keyboard.press("Enter")
        await expect(page.locator(".card")).to_have_count(2)
        submitted, followed = house.relay.jobs()
        await expect(page.locator("#answer")).to_have_text(f"Started {followed.id}")
        await expect(visitor.card(submitted.id).locator(".task")).to_have_text(submitted.state.task or "")
        assert followed.state.task == task
        await house.clock.advance(60)
        await expect(visitor.card(submitted.id).locator(".status")).to_have_text("failed")
        await expect(visitor.card(followed.id).locator(".status")).to_have_text("succeeded")
        assert isinstance(followed.state.terminal, Done)
        [link] = await visitor.card(followed.id).locator("a").all()
        assert (await link.get_attribute("href"), await link.text_content()) == (
            followed.state.terminal.urls[0],
            "Result 1 (video/mp4)",
        )


async def test_a_refused_job_says_why(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        page = visitor.page
        await page.locator("summary").click()
        await page.get_by_role("combobox", name="Upstream").fill("nowhere")
        await page.get_by_label("Prompt", exact=True).fill("a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#answer")).to_have_text(
            "Not started: no upstream is called 'nowhere'; configured: sora"
        )
        visitor.excuse("400")


async def test_a_submission_whose_answer_got_lost_is_not_made_twice(visitor: Visit) -> None:
    answers: list[Any] = []

    async def lose_the_first_answer(route: Route) -> None:
        answers.append(await (await route.fetch()).json())
        await (route.abort() if len(answers) == 1 else route.continue_())

    async with open_house() as house:
        await visitor.open(house)
        page = visitor.page
        await page.route("**/v1/jobs", lose_the_first_answer)
        await page.locator("summary").click()
        await page.get_by_role("combobox", name="Upstream").fill("sora")
        await page.get_by_label("Prompt", exact=True).fill("a cat")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("#answer")).to_have_text("Not started: the relay did not answer")
        visitor.excuse("ERR_FAILED")
        await page.get_by_role("button", name="Start").click()
        [job] = house.relay.jobs()
        await expect(page.locator("#answer")).to_have_text(f"Started {job.id}")
        await expect(visitor.card(job.id).locator(".task")).to_have_text(job.state.task or "")
        assert house.upstream.requests["nf/create"] == 1
        assert {answer["job"] for answer in answers} == {job.id}
