"""The page is for everybody: by keyboard, by screen reader, in the dark, on a small screen, magnified."""

import re
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from relay.events import Log, Retrying
from tests.browser.house import HOSTILE, House, open_house
from tests.browser.visit import Visit, visit
from tests.web.access.keys import SETTINGS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_NAMED = {"button", "combobox", "textbox", "radio", "link", "progressbar", "log", "region", "heading", "listitem"}

_CONTRASTS = """
() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [red, green, blue] = numbers(colour).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const background = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return numbers(colour)[3] === 0 ? background(node.parentElement) : colour;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("option, .unseen")) continue;
    const [light, dark] = [getComputedStyle(node).color, background(node)].map(luminance).sort((a, b) => b - a);
    found.push([(light + 0.05) / (dark + 0.05), walker.currentNode.data.trim()]);
  }
  return found;
}
"""

_LISTEN = """
() => {
  window.heard = [];
  const announcer = document.getElementById("announcer");
  new MutationObserver(() => window.heard.push(announcer.textContent)).observe(announcer, { childList: true });
}
"""


async def show_everything(house: House, visitor: Visit) -> None:
    """A page with jobs in every state, with lines of every level, and with its form open."""
    queued, cancelled, odd = house.play("never-finishes", "never-finishes", "garbage")
    house.play("happy", HOSTILE)
    await visitor.open(house)
    await visitor.page.locator("summary").click()
    await house.clock.advance(45)
    house.play("never-finishes")
    house.relay.bus.publish(queued, Log(line="unbroken" * 60))
    house.relay.bus.publish(odd, Retrying(kind="timeout", message="no answer", attempt=1, next_in=2.5))
    await house.relay.cancel(cancelled.id)
    await visitor.card(odd.id).locator(".focus").click()
    await visitor.page.get_by_role("button", name="Show every job").click()
    await visitor.caught_up(house)


async def test_everything_has_the_name_and_the_role_it_should_have(visitor: Visit) -> None:
    async with open_house() as house:
        await show_everything(house, visitor)
        session = await visitor.page.context.new_cdp_session(visitor.page)
        tree: list[dict[str, Any]] = (await session.send("Accessibility.getFullAXTree"))["nodes"]
        shown = [
            (node["role"]["value"], node["name"]["value"])
            for node in tree
            if not node["ignored"] and node["role"]["value"] in _NAMED
        ]
        unnamed = [role for role, name in shown if not name and role != "listitem"]
        assert unnamed == []
        controls = [name for role, name in shown if role in ("button", "progressbar", "combobox", "textbox", "link")]
        assert len(controls) == len(set(controls)), "two controls are called the same"
        assert [name for role, name in shown if role == "progressbar"] == [
            f"Progress of job {job.id}" for job in reversed(house.relay.jobs())
        ]
        assert [name for role, name in shown if role == "log"] == ["Log of all jobs"]
        headings = (
            await visitor.page.locator("h1, h2, h3")
            .filter(visible=True)
            .evaluate_all("all => all.map(one => one.localName)")
        )
        assert headings == ["h1", "h2", *["h3"] * 6, "h2"]
        assert await visitor.page.locator("html").get_attribute("lang") == "en"


async def test_a_screen_reader_hears_changes_of_state_and_ends_but_not_every_poll(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        await visitor.stop_clock()
        assert await visitor.page.locator("#lines").get_attribute("aria-live") == "off"
        await visitor.page.evaluate(_LISTEN)
        [job] = house.play("happy")
        for seconds in (0, 5, 5, 10, 60):
            await house.clock.advance(seconds)
            await visitor.caught_up(house)
            await visitor.page.clock.run_for(2_000)
        name = f"Job ending in {job.id[-4:]}"
        assert await visitor.page.evaluate("window.heard") == [
            f"{name}: queued",
            f"{name}: running",
            f"{name}: done, 1 file (video/mp4)",
        ]


async def test_many_changes_at_once_are_heard_as_one_sentence(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        await visitor.stop_clock()
        house.play("happy", "happy", "never-finishes", "never-finishes", "violation")
        await house.clock.advance(60)
        await visitor.caught_up(house)
        await visitor.page.clock.run_for(2_000)
        await expect(visitor.page.locator("#announcer")).to_have_text(
            "5 jobs have changed: 2 succeeded, 2 running, 1 failed"
        )


async def test_the_keyboard_reaches_everything_and_skips_to_the_log(visitor: Visit) -> None:
    async with open_house() as house:
        [job] = house.play("never-finishes")
        await visitor.open(house)
        await visitor.caught_up(house)
        page, reached = visitor.page, list[str]()
        for _ in range(7):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            await expect(focused).to_be_in_viewport()
            reached.append(await focused.evaluate("one => one.ariaLabel || one.id || one.className || one.textContent"))
            assert await focused.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
        assert reached == [
            "skip",
            "show",
            "New job",
            f"Filter log: only job {job.id}",
            f"Cancel job {job.id}",
            "level",
            "Log of all jobs",
        ]
        await page.reload()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.locator("#lines")).not_to_be_focused()
        await page.keyboard.press("Shift+Tab")
        await expect(page.locator("#lines")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground(browser: Browser, scheme: Literal["light", "dark"]) -> None:
    async with open_house() as house, visit(browser, color_scheme=scheme) as visitor:
        await show_everything(house, visitor)
        contrasts: list[tuple[float, str]] = await visitor.page.evaluate(_CONTRASTS)
        assert len(contrasts) > 200
        # [spec] WCAG 2.2, 1.4.3
        assert [found for found in contrasts if found[0] < 4.5] == []
        assert visitor.complaints == []


@pytest.mark.parametrize(("width", "height"), [(320, 640), (640, 400), (1024, 700), (2560, 1300)])
async def test_nothing_needs_scrolling_sideways(browser: Browser, width: int, height: int) -> None:
    async with open_house() as house, visit(browser, viewport=ViewportSize(width=width, height=height)) as visitor:
        await show_everything(house, visitor)
        wide = "root => root.scrollWidth - root.clientWidth"
        assert await visitor.page.locator("html").evaluate(wide) == 0
        assert await visitor.page.locator("#lines").evaluate(wide) == 0
        assert await visitor.page.locator("main section").evaluate_all(f"all => all.map({wide})") == [0, 0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_page_that_asks_for_a_token_can_be_read_and_fits(
    browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    small = ViewportSize(width=320, height=640)
    async with open_house(access=SETTINGS) as house, visit(browser, viewport=small, color_scheme=scheme) as visitor:
        await visitor.page.goto(house.server.url)
        await expect(visitor.page.get_by_label("Token")).to_be_focused()
        await expect(visitor.page.get_by_label("Token")).to_have_accessible_description(re.compile("An API key"))
        wide = "root => root.scrollWidth - root.clientWidth"
        assert await visitor.page.locator("html").evaluate(wide) == 0
        contrasts: list[tuple[float, str]] = await visitor.page.evaluate(_CONTRASTS)
        assert len(contrasts) > 5
        assert [found for found in contrasts if found[0] < 4.5] == []


async def test_nothing_moves_for_who_asked_for_less_motion(browser: Browser) -> None:
    async with open_house() as house, visit(browser, reduced_motion="reduce") as visitor:
        house.play("never-finishes")
        await visitor.open(house)
        bar = visitor.page.locator("progress:indeterminate")
        await expect(bar).to_be_visible()
        assert await bar.evaluate("bar => getComputedStyle(bar).animationName") == "none"
        assert await visitor.page.evaluate("document.getAnimations().length") == 0


async def test_nothing_on_the_page_is_inline_or_from_elsewhere(visitor: Visit) -> None:
    async with open_house() as house:
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(request.url))
        await show_everything(house, visitor)
        inline = "script:not([src]), style, [style], [onclick], [onerror], [onload], a[href^='javascript:']"
        assert await visitor.page.locator(inline).count() == 0
        assert [url for url in asked if not url.startswith(house.server.url)] == []
