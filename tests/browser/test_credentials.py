"""Whether cookies go with what the client asks for: as `credentials` of fetch, for streams, elements and calls."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp.web import Request, StreamResponse
from playwright.async_api import Browser, Page

from tests.browser.elsewhere import plain_page, served
from tests.browser.house import House, open_house
from web import create_app

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

COOKIE = "session=canary"


class Seen:
    """The relay, which pages of *origin* may use; and with which cookie each path was asked for."""

    def __init__(self, house: House, origin: str) -> None:
        self.cookies: dict[str, set[str]] = {}
        self._news = asyncio.Condition()
        self.app = create_app(house.relay, origins={origin})
        self.app.on_response_prepare.append(self._note)

    async def _note(self, request: Request, _: StreamResponse) -> None:
        async with self._news:
            self.cookies.setdefault(request.path, set()).add(request.headers.get("Cookie", ""))
            self._news.notify_all()

    async def of(self, path: str) -> set[str]:
        """The cookies that came with *path*, once it was asked for."""
        async with self._news:
            await self._news.wait_for(lambda: path in self.cookies)
            return self.cookies[path]


@asynccontextmanager
async def another_origin(browser: Browser, house: House) -> AsyncGenerator[tuple[Page, Seen, str]]:
    """A page of one origin, and the relay at another, at which the browser has a cookie."""
    async with served(plain_page()) as origin:
        seen = Seen(house, origin)
        async with served(seen.app) as relay:
            context = await browser.new_context()
            try:
                name, value = COOKIE.split("=")
                await context.add_cookies([{"name": name, "value": value, "url": relay}])
                page = await context.new_page()
                await page.goto(origin)
                yield page, seen, relay
            finally:
                await context.close()


@pytest.mark.parametrize(
    ("mode", "sent"), [(None, ""), ("same-origin", ""), ("omit", ""), ("include", COOKIE)], ids=str
)
async def test_a_relay_of_another_origin_is_sent_cookies_only_where_they_are_included(
    mode: str | None, sent: str, browser: Browser
) -> None:
    options = {} if mode is None else {"credentials": mode}
    async with open_house() as house, another_origin(browser, house) as (page, seen, relay):
        [job] = house.play("happy")
        await page.evaluate(
            """async ([url, job, options]) => {
              const client = await import(url + "/static/relay.js");
              new client.RelayStream({ jobs: [job], ...options }).open();
              await client.show(job, options);
            }""",
            [relay, job.id, options],
        )
        assert await seen.of("/v1/events") == {sent}
        assert await seen.of(f"/v1/jobs/{job.id}") == {sent}


async def test_an_element_includes_cookies_where_it_is_told_so(browser: Browser) -> None:
    async with open_house() as house, another_origin(browser, house) as (page, seen, relay):
        [job] = house.play("happy")
        await page.evaluate(
            """async ([url, job]) => {
              await import(url + "/static/relay.js");
              document.querySelector("main").innerHTML = `<relay-progress job="${job}" credentials="include">`;
            }""",
            [relay, job.id],
        )
        assert await seen.of("/v1/events") == {COOKIE}
        assert await seen.of(f"/v1/jobs/{job.id}") == {COOKIE}


async def test_the_one_connection_of_several_streams_has_cookies_if_one_of_them_includes_them(browser: Browser) -> None:
    async with open_house() as house, another_origin(browser, house) as (page, seen, relay):
        await page.evaluate(
            """async (url) => {
              const { RelayStream } = await import(url + "/static/relay.js");
              for (const credentials of ["omit", "include", "same-origin"]) new RelayStream({ credentials }).open();
            }""",
            relay,
        )
        assert await seen.of("/v1/events") == {COOKIE}


@pytest.mark.parametrize(("mode", "sent"), [(None, COOKIE), ("omit", "")])
async def test_a_page_of_the_relays_own_origin_sends_its_cookies_unless_they_are_left_out(
    mode: str | None, sent: str, browser: Browser
) -> None:
    options = {} if mode is None else {"credentials": mode}
    async with open_house() as house, another_origin(browser, house) as (page, seen, relay):
        await page.goto(f"{relay}/static/favicon.svg")
        await page.evaluate(
            """async (options) => {
              const { RelayStream } = await import("/static/relay.js");
              new RelayStream(options).open();
            }""",
            options,
        )
        assert await seen.of("/v1/events") == {sent}
