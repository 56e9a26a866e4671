"""Somebody else's page that uses the relay's client: what its streams and elements tell."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

from playwright.async_api import Browser, BrowserContext, Page

from relay import Relay
from tests.browser.house import Line, Server
from tests.browser.proxy import Proxy
from web.streaming.keys import STREAMS

__all__ = ["FAST", "NO_LOCKS", "NO_WORKER", "Giver", "Watcher", "agree", "lines", "only", "tabs"]

Giver = Callable[[int], Awaitable[str | None]]
"""Returns the credential for the first time that one is asked for, the second and so on."""

FAST = {"retry": 20, "longest": 100, "poll": 20, "probe": 50}
"""A client in a hurry: milliseconds."""

NO_WORKER = "delete window.SharedWorker;"
NO_LOCKS = NO_WORKER + "Object.defineProperty(navigator, 'locks', { value: undefined });"

_OPEN = """
async ([options, timing, module]) => {
  const client = await import(module);
  Object.assign(client.timing, timing);
  const stream = new client.RelayStream({ ...options, ...window.proof });
  const story = { records: [], notices: [], states: [] };
  const waiting = new Set();
  const keep = (list) => ({ detail }) => {
    list.push(detail);
    for (const look of waiting) look();
  };
  stream.addEventListener("record", keep(story.records));
  stream.addEventListener("notice", keep(story.notices));
  stream.addEventListener("state", keep(story.states));
  window.until = (test) => new Promise((resolve) => {
    const look = () => test(story) && waiting.delete(look) && resolve();
    waiting.add(look);
    look();
  });
  Object.assign(window, { client, stream, story });
  stream.open();
}
"""


class Watcher(NamedTuple):
    """One tab of that page, which loads the client from *module*."""

    page: Page
    module: str = "/static/relay.js"

    async def watch(
        self, jobs: Sequence[str] | None = None, *, level: str = "debug", timing: Mapping[str, int] = FAST
    ) -> None:
        """Open a stream of these jobs, or of all."""
        await self.page.evaluate(_OPEN, [{"jobs": jobs, "level": level}, {**timing}, self.module])

    async def proves_itself(self, give: Giver, *, kind: str = "token", **further: str) -> list[dict[str, Any]]:
        """Let later streams have a function that asks *give* for a token or a ticket. Returns what it is asked with."""
        asked: list[dict[str, Any]] = []

        async def answer(how: dict[str, Any]) -> str | None:
            asked.append(how)
            return await give(len(asked))

        await self.page.expose_function("give", answer)
        await self.page.evaluate(
            "([kind, further]) => { window.proof = { [kind]: (how) => give(how), ...further } }", [kind, further]
        )
        return asked

    async def heard(self, count: int) -> None:
        """Return when that many records have been heard."""
        await self.page.evaluate("count => until(({ records }) => records.length >= count)", count)

    async def is_in(self, state: str) -> None:
        """Return when the stream says that it is in this state."""
        await self.page.evaluate("state => until(({ states }) => states.at(-1) === state)", state)

    async def was_told(self, kind: str) -> dict[str, Any]:
        """The first notice of this type, once there is one."""
        await self.page.evaluate("kind => until(({ notices }) => notices.some(({ type }) => type === kind))", kind)
        return next(notice for notice in await self.notices() if notice["type"] == kind)

    async def was_told_often(self, kind: str, times: int) -> None:
        """Return when there are that many notices of this type."""
        await self.page.evaluate(
            "([kind, times]) => until(({ notices }) => notices.filter(({ type }) => type === kind).length >= times)",
            [kind, times],
        )

    async def story(self) -> list[Line]:
        """The records, in the order in which they were heard."""
        told = await self.page.evaluate("story.records.map(({ job, seq, text }) => [job, seq, text])")
        return [Line(*one) for one in told]

    async def notices(self) -> list[dict[str, Any]]:
        return list(await self.page.evaluate("story.notices"))

    async def states(self) -> list[str]:
        return list(await self.page.evaluate("story.states"))


class Tabs(NamedTuple):
    """The tabs of one browser."""

    context: BrowserContext

    async def open(self, proxy: Proxy) -> Watcher:
        page = await self.context.new_page()
        await page.goto(f"{proxy.url}shop")
        return Watcher(page)


@asynccontextmanager
async def tabs(browser: Browser, script: str = "") -> AsyncGenerator[Tabs]:
    """A browser of one's own, in which *script* runs first in every page."""
    context = await browser.new_context()
    if script:
        await context.add_init_script(script)
    try:
        yield Tabs(context)
    finally:
        await context.close()


def lines(relay: Relay, *jobs: str) -> list[Line]:
    """The whole story as the journal has it, of these jobs or of all."""
    return [Line(record.job, record.seq, record.event.text) for record in relay.journal.read(0, jobs or None)]


class Teller(Protocol):
    """A tab that can be asked what it received."""

    async def heard(self, count: int) -> None: ...

    async def story(self) -> list[Line]: ...


async def agree(teller: Teller, relay: Relay, *jobs: str) -> None:
    """Assert that the tab has the story of these jobs, or of all, once it is not behind; it may go on meanwhile."""
    await teller.heard(len(lines(relay, *jobs)))
    story = await teller.story()
    assert story == lines(relay, *jobs)[: len(story)]


async def only(server: Server, count: int) -> int:
    """How many streams are open, once those that were left have ended and at most *count* are."""
    streams = server.app[STREAMS]
    while len(streams) > count:
        await asyncio.wait(
            [asyncio.ensure_future(stream.done.wait()) for stream in streams], return_when=asyncio.FIRST_COMPLETED
        )
    return len(streams)
