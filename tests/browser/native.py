"""A browser's own EventSource at the relay, on a page of any origin: what it receives, and how it ends."""

from typing import Any, NamedTuple

from playwright.async_api import Page, Request

from relay.events import EVENTS
from tests.browser.house import House, Line

__all__ = ["Native", "open_native"]

_TYPES = [str(event.__struct_config__.tag) for event in EVENTS]
_NOTICES = ["snapshot", "gap", "gone", "busy", "bye", "expiring", "denied"]

_OPEN = """
async ([url, withCredentials, types, notices]) => {
  const source = new EventSource(url, { withCredentials });
  const story = { opened: 0, records: [], notices: [], closed: false };
  const waiting = new Set();
  const look = () => waiting.forEach((one) => one());
  const keep = (list) => ({ type, data }) => {
    list.push({ ...JSON.parse(data), type });
    look();
  };
  for (const type of types) source.addEventListener(type, keep(story.records));
  for (const type of notices) source.addEventListener(type, keep(story.notices));
  source.onopen = () => look((story.opened += 1));
  source.onerror = () => look((story.closed = source.readyState === EventSource.CLOSED));
  window.until = (test) => new Promise((resolve) => {
    const one = () => test(story) && waiting.delete(one) && resolve();
    waiting.add(one);
    one();
  });
  Object.assign(window, { source, story });
}
"""


class Native(NamedTuple):
    """One EventSource."""

    page: Page
    requests: list[Request]

    async def opened(self, count: int) -> None:
        """Return when it has been opened that often."""
        await self.page.evaluate("count => until(({ opened }) => opened >= count)", count)

    async def heard(self, count: int) -> None:
        """Return when that many records were received."""
        await self.page.evaluate("count => until(({ records }) => records.length >= count)", count)

    async def was_told(self, kind: str) -> dict[str, Any]:
        """The first notice of this type, once there is one."""
        await self.page.evaluate("kind => until(({ notices }) => notices.some(({ type }) => type === kind))", kind)
        notices = await self.notices()
        return next(notice for notice in notices if notice["type"] == kind)

    async def closed(self) -> None:
        """Return when it has given up for good."""
        await self.page.evaluate("until(({ closed }) => closed)")

    async def story(self) -> list[Line]:
        told = await self.page.evaluate("story.records.map(({ job, seq, text }) => [job, seq, text])")
        return [Line(*one) for one in told]

    async def notices(self) -> list[dict[str, Any]]:
        return list(await self.page.evaluate("story.notices"))


async def open_native(page: Page, url: str, *, credentials: bool = False) -> Native:
    """Open an EventSource of *url* on *page*; its requests are kept."""
    native = Native(page, [])
    page.on("request", lambda request: native.requests.append(request) if "/events" in request.url else None)
    await page.evaluate(_OPEN, [url, credentials, _TYPES, _NOTICES])
    return native


async def plain(page: Page, house: House) -> Page:
    """*page*, at an address of the relay that runs no script and asks for no access."""
    await page.goto(f"{house.server.url}static/favicon.svg")
    return page
