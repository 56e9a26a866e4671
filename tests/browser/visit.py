"""A browser's visit to the page: what it shows, and what the browser complained of."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, ViewportSize, expect

from tests.browser.house import House, Line

__all__ = ["Visit", "visit"]

WIDE = ViewportSize(width=1280, height=800)

_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI}`));
"""

_READ_LOG = """
lines => lines.map(line => [".job", ".seq", ".text"].map(part => line.querySelector(part).textContent))
"""


class Visit:
    """The page in one tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._house: House | None = None
        self._excused: set[str] = set()
        self._complaints: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._complaints.append(f"uncaught: {error}"))

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the browser's console, and uncaught exceptions, but for what is excused."""
        return [said for said in self._complaints if not any(excuse in said for excuse in self._excused)]

    async def open(self, house: House, query: str = "") -> None:
        """Open the page, and wait until its stream is open."""
        self._house = house
        await self.page.goto(house.server.url + query)
        await self.live()

    async def live(self) -> None:
        await expect(self.page.locator("#connection")).to_have_text("Live")

    async def caught_up(self, house: House) -> None:
        """Wait until the log has as many lines as there are records, also if more are published meanwhile."""
        while await self.lines.count() != house.relay.journal.head:
            pass

    async def stop_clock(self) -> None:
        """Let the page's timers wait for `page.clock.run_for`, however busy the machine is; it goes on drawing.

        A clock that is only installed runs on with that of the machine.
        """
        await self.page.evaluate("() => { window.draw = requestAnimationFrame.bind(window) }")
        await self.page.clock.install()
        await self.page.clock.pause_at(datetime.now(UTC) + timedelta(days=1))
        await self.page.evaluate("() => { window.requestAnimationFrame = window.draw }")

    async def log(self) -> list[Line]:
        """The records' lines of the log, as they are read."""
        shown: list[list[str]] = await self.lines.evaluate_all(_READ_LOG)
        return [Line(job, int(seq), text) for job, seq, text in shown]

    @property
    def lines(self) -> Locator:
        return self.page.locator("#lines [data-seq]")

    def card(self, job: str) -> Locator:
        return self.page.locator(f'.card[data-job="{job}"]')

    def excuse(self, text: str) -> None:
        """Expect complaints that hold *text*: the test causes them."""
        self._excused.add(text)

    def _said(self, message: ConsoleMessage) -> None:
        alone = self._house is not None and self._house.over and "ERR_CONNECTION_REFUSED" in message.text
        if message.type in ("error", "warning") and not alone:
            self._complaints.append(message.text)


@asynccontextmanager
async def visit(
    browser: Browser,
    *,
    viewport: ViewportSize = WIDE,
    color_scheme: Literal["light", "dark"] = "light",
    reduced_motion: Literal["no-preference", "reduce"] = "no-preference",
) -> AsyncGenerator[Visit]:
    """A visit with a fresh profile."""
    context = await browser.new_context(viewport=viewport, color_scheme=color_scheme, reduced_motion=reduced_motion)
    await context.add_init_script(_REPORT_VIOLATIONS)
    try:
        yield Visit(await context.new_page())
    finally:
        await context.close()
