"""The page tells the console's story: the same records, in the same order and the same words."""

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from relay import Done, Relay
from relay.events import EVENTS, Failed, Log, Progress
from relay.jobs import JobState
from relay.journal import Retention
from relay.testing import ManualClock, Scenario, sample_records
from tests.browser.house import HOSTILE, REASON, open_house
from tests.browser.proxy import open_proxy
from tests.browser.visit import Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_READ_CARDS = """
cards => cards.map(card => ({
  job: card.dataset.job,
  status: card.querySelector(".status").textContent,
  percent: card.querySelector("progress").hasAttribute("value") ? card.querySelector("progress").value : null,
  upstream: card.querySelector(".upstream").textContent,
  task: card.querySelector(".task").textContent,
  started: card.querySelector(".started").dateTime,
  updated: card.querySelector(".updated").dateTime,
  text: card.querySelector(".text").textContent,
}))
"""


def bar(state: JobState) -> int | None:
    """How far the bar of a job is, None where that is open. One that ended without a result is never full."""
    percent = 0 if state.terminal is not None and state.percent is None else state.percent
    return percent if percent is None or state.status == "succeeded" or state.terminal is None else min(percent, 99)


def snapshots(relay: Relay) -> list[dict[str, Any]]:
    """What the cards of the relay's jobs should show, the newest first."""
    return [
        {
            "job": job.id,
            "status": job.state.status,
            "percent": bar(job.state),
            "upstream": job.state.upstream,
            "task": job.state.task,
            "started": f"{job.state.started:%Y-%m-%dT%H:%M:%S.%fZ}".replace(".000000", ""),
            "updated": f"{job.state.updated:%Y-%m-%dT%H:%M:%S.%fZ}".replace(".000000", ""),
            "text": job.state.text,
        }
        for job in reversed(relay.jobs())
    ]


@pytest.mark.parametrize(
    "scenarios",
    [
        pytest.param(["happy", "gap", "violation", "error-item", "missing-url", "reappears", HOSTILE], id="ends"),
        pytest.param(["garbage", "flat", "trace-b", "vanishes"], id="figures"),
        pytest.param(["happy", "unauthorised", "rate-limited", "html", "not-a-list"], id="outages"),
    ],
)
async def test_the_log_says_word_for_word_what_the_console_printed_to_early_and_late_readers(
    browser: Browser, visitor: Visit, scenarios: list[str | Scenario]
) -> None:
    async with open_house(auto=True) as house, visit(browser) as late:
        await visitor.open(house)
        house.play(*scenarios)
        await house.ended()
        await late.open(house)
        for reader in (visitor, late):
            await reader.caught_up(house)
            assert await reader.log() == await house.printed()
            assert await reader.page.locator(".card").evaluate_all(_READ_CARDS) == snapshots(house.relay)
        assert late.complaints == []


async def test_a_reload_in_mid_story_loses_and_repeats_nothing(visitor: Visit) -> None:
    async with open_house() as house:
        house.play("happy", "gap")
        await visitor.open(house)
        await house.clock.advance(20)
        await visitor.caught_up(house)
        before = await visitor.log()
        await visitor.page.reload()
        await visitor.caught_up(house)
        assert await visitor.log() == before
        await house.clock.advance(60)
        await visitor.caught_up(house)
        assert await visitor.log() == await house.printed()
        assert all(job.ended for job in house.relay.jobs())


async def test_a_server_that_is_restarted_in_mid_story_costs_no_line(visitor: Visit) -> None:
    async with open_house() as house:
        house.play("happy")
        await visitor.open(house)
        await house.clock.advance(10)
        await visitor.caught_up(house)
        await house.server.stop()
        await expect(visitor.page.locator("#connection")).to_have_text("The relay is restarting; waiting for it")
        await house.clock.advance(60)
        await house.server.start()
        await visitor.live()
        await visitor.caught_up(house)
        assert await visitor.log() == await house.printed()


async def test_a_status_that_ends_an_eventsource_for_good_does_not_end_the_story(visitor: Visit) -> None:
    async with open_house() as house, open_proxy(house) as proxy:
        house.play("happy")
        proxy.refusals.append((502, {}))
        await visitor.page.goto(proxy.url)
        await expect(visitor.page.locator("#connection")).to_have_text("Connection lost; trying again")
        await visitor.live()
        await house.clock.advance(60)
        await visitor.caught_up(house)
        assert await visitor.log() == await house.printed()
        assert proxy.resumed == [None, None]


async def test_what_a_stream_says_twice_is_shown_once(visitor: Visit) -> None:
    async with open_house() as house, open_proxy(house) as proxy:
        house.play("happy", "gap")
        await house.clock.advance(20)
        proxy.mode = "twice"
        await visitor.page.goto(proxy.url)
        await house.clock.advance(60)
        await visitor.caught_up(house)
        assert await visitor.log() == await house.printed()


async def test_a_relay_that_has_forgotten_the_past_is_said_to_have(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        await visitor.caught_up(house)
        async with Relay([], clock=ManualClock()) as anew:
            await house.server.stop()
            house.server.relay = anew
            await house.server.start()
            await expect(visitor.page.locator("#lines .note")).to_have_text(
                [
                    "",
                    "Records are missing here: the relay was started anew, or keeps them no longer",
                    "What was said before is no longer kept. Each job is shown as it stands.",
                ]
            )
            card = visitor.card(job.id)
            await expect(card.locator(".text")).to_have_text("The relay no longer knows this job.")
            await expect(card.locator(".cancel")).to_be_hidden()
            await house.server.stop()


async def test_what_an_upstream_says_is_shown_as_text_and_does_nothing(visitor: Visit) -> None:
    task = "<img src=x onerror=\"document.title='owned'\">"
    async with open_house(auto=True) as house:
        [failing] = house.play(HOSTILE)
        await house.ended()
        await visitor.open(house)
        await visitor.caught_up(house)
        done = house.relay.follow("sora", task)
        links = ("javascript:document.title='owned'", "data:text/html,owned", "https://files.example/a.mp4")
        house.relay.bus.publish(done, Done(urls=links, media_types=("video/mp4",)))
        await visitor.caught_up(house)

        assert "\r\n\x1b" in REASON
        shown = f"failed (upstream): {failing.state.text.partition(': ')[2]}"
        await expect(visitor.card(failing.id).locator(".text")).to_have_text(shown)
        assert not set("\r\n\x1b\x07\u202e\u202c") & set("".join(line.text for line in await visitor.log()))
        await expect(visitor.card(done.id).locator(".task")).to_have_text(task)
        assert await visitor.page.locator("main img, main b, main script").count() == 0
        results = visitor.card(done.id).locator(".results li")
        await expect(results).to_have_text(
            [
                f"Result 1 (video/mp4), not a web address: {links[0]}",
                f"Result 2, not a web address: {links[1]}",
                "Result 3",
            ]
        )
        [link] = await visitor.card(done.id).locator("a").all()
        assert await link.evaluate("link => [link.href, link.target, link.rel]") == [
            links[2],
            "_blank",
            "noopener noreferrer",
        ]
        assert await visitor.page.title() == "All ended - Progress relay"


async def test_the_log_keeps_the_newest_2000_lines_and_says_how_many_went_before(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        for number in range(5_000):
            house.relay.bus.publish(job, Log(line=f"line {number}"))
        await expect(visitor.lines.last.locator(".text")).to_have_text("line 4999")
        await expect(visitor.lines).to_have_count(2_000)
        assert await visitor.log() == (await house.printed())[-2_000:]
        missing = house.relay.journal.head - 2_000
        await expect(visitor.page.locator("#trimmed")).to_have_text(
            f"{missing:,} earlier lines are no longer shown here"
        )


async def test_every_type_of_record_is_heard(visitor: Visit) -> None:
    async with open_house() as house:
        names = dict.fromkeys(record.job for record in sample_records())
        jobs = dict(zip(names, house.play(*["never-finishes"] * len(names)), strict=True))
        await house.clock.advance(1)
        await visitor.open(house)
        for record in sample_records():
            house.relay.bus.publish(jobs[record.job], record.event)
        await visitor.caught_up(house)
        heard = await visitor.lines.evaluate_all("lines => lines.map(line => line.dataset.type)")
        assert set(heard) == {kind.__struct_config__.tag for kind in EVENTS}
        assert await visitor.log() == await house.printed()


async def test_more_jobs_than_one_block_of_a_snapshot_holds_are_all_shown_as_they_stand(visitor: Visit) -> None:
    async with open_house(keep=Retention(records=50)) as house:
        house.play(*["never-finishes"] * 150)
        await visitor.open(house)
        await expect(visitor.page.locator(".card")).to_have_count(150)
        await expect(visitor.page.locator("#counts")).to_have_text("150 queued")


async def test_the_page_works_under_a_prefix_in_an_application_that_exists(visitor: Visit) -> None:
    async with open_house(prefix="/relay") as house:
        [job] = house.play("happy")
        await visitor.open(house)
        await house.clock.advance(20)
        await visitor.caught_up(house)
        assert visitor.page.url.endswith("/relay/")
        await visitor.card(job.id).locator(".cancel").click()
        await expect(visitor.card(job.id).locator(".status")).to_have_text("cancelled")
        await visitor.caught_up(house)
        assert await visitor.log() == await house.printed()


async def test_a_result_that_is_no_file_is_shown_whole_and_as_text(visitor: Visit) -> None:
    async with open_house() as house:
        text, value = house.play("never-finishes", "never-finishes")
        await visitor.open(house)
        long = "<b>bold</b> " * 100
        house.relay.bus.publish(text, Done(result=long))
        house.relay.bus.publish(value, Done(urls=("https://files.example/a.mp4",), result={"<i>": [1, None]}))
        await expect(visitor.card(text.id).locator(".results pre")).to_have_text(long)
        await expect(visitor.card(value.id).locator(".results pre")).to_have_text('{ "<i>": [ 1, null ] }')
        await expect(visitor.card(value.id).locator(".results a")).to_have_count(1)
        assert await visitor.page.locator("main b, main i").count() == 0


async def test_the_bar_of_a_job_that_ended_without_a_result_is_not_full(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        house.relay.bus.publish(job, Progress(percent=100, status="running"))
        house.relay.bus.publish(job, Failed(kind="policy", message="refused"))
        await expect(visitor.card(job.id).locator(".status")).to_have_text("failed")
        assert await visitor.card(job.id).locator("progress").evaluate("bar => bar.value") < 100
