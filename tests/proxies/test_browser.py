"""A real browser behind real proxies: an EventSource as it is, with nothing of ours around it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, HttpCredentials, Page, expect

from relay.events import EVENTS, Done, Log
from tests.proxies.proxies import PASSWORD, PROXIES, USER, Proxy, open_to_operators
from tests.proxies.site import Behind, behind, job_of

EACH = [pytest.param(proxy, id=name, marks=getattr(pytest.mark, name)) for name, proxy in PROXIES.items()]

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TYPES = [*(str(event.__struct_config__.tag) for event in EVENTS), "bye", "gap", "snapshot"]

LISTEN = """
([url, types]) => {
  const source = new EventSource(url);
  for (const type of types) {
    source.addEventListener(type, (event) => tell({ id: event.lastEventId, type, data: event.data }));
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) tell({ id: "", type: "closed", data: "" });
  };
}
"""

RECIPE = '{"reason":"the relay is restarting"}'


class Tab:
    """A tab that shows something of the relay, through the proxy; and what its EventSource has heard."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.heard: list[dict[str, str]] = []
        self._news = asyncio.Condition()

    async def tell(self, event: dict[str, str]) -> None:
        async with self._news:
            self.heard.append(event)
            self._news.notify_all()

    async def listen(self, path: str) -> None:
        await self.page.evaluate(LISTEN, [path, TYPES])

    async def hears(self, kind: str, count: int = 1) -> None:
        """Wait until it has heard so many events of this type."""
        async with self._news:
            await self._news.wait_for(lambda: [event["type"] for event in self.heard].count(kind) >= count)


@asynccontextmanager
async def visit(browser: Browser, house: Behind) -> AsyncGenerator[Tab]:
    login = HttpCredentials(username=USER, password=PASSWORD)
    context = await browser.new_context(ignore_https_errors=True, http_credentials=login)
    try:
        tab = Tab(await context.new_page())
        await tab.page.expose_function("tell", tab.tell)
        await tab.page.goto(f"{house.site.url}/static/favicon.svg")
        yield tab
    finally:
        await context.close()


@pytest.mark.parametrize("proxy", EACH)
async def test_a_deploy_ends_no_eventsource_and_costs_no_record(browser: Browser, tmp_path: Path, proxy: Proxy) -> None:
    async with behind(proxy, tmp_path) as house, visit(browser, house) as tab:
        job = job_of(house.relay, 3)
        await tab.listen(f"/v1/jobs/{job.id}/events")
        await tab.hears("log", 3)
        await house.site.stop()
        await tab.hears("bye", 1 + 5)
        for number in range(3):
            house.relay.bus.publish(job, Log(line=f"meanwhile {number}"))
        await house.site.start()
        await tab.hears("log", 6)
        house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        await tab.hears("closed")

        told = [
            {"id": str(record.position), "type": record.event.type, "data": record.json.decode()}
            for record in house.relay.journal.read(0)
        ]
        *story, closed = [event for event in tab.heard if event["type"] != "bye"]
        byes = [(event["id"], event["data"]) for event in tab.heard if event["type"] == "bye"]
        assert story == told
        assert closed["type"] == "closed", "only 204 has ended it, after the last record"
        assert byes[0] == (told[2]["id"], '{"reason":"the relay is shutting down"}')
        assert set(byes[1:]) == {(told[2]["id"], RECIPE)}, "the recipe leaves the cursor where it is"


@pytest.mark.nginx
async def test_without_the_recipe_a_deploy_ends_an_eventsource_for_good(browser: Browser, tmp_path: Path) -> None:
    """Which is what the recipe is for, and how we know that the test above can fail."""
    bare = "\n        error_page 502 503 504 =200 @restarting;"
    async with (
        behind(PROXIES["nginx"], tmp_path, lambda block: block.replace(bare, "")) as house,
        visit(browser, house) as tab,
    ):
        await tab.listen("/v1/events")
        job_of(house.relay, 3)
        await tab.hears("log", 3)
        await house.site.stop()
        await tab.hears("closed")
        assert [event["type"] for event in tab.heard] == ["log", "log", "log", "bye", "closed"]


@pytest.mark.parametrize("proxy", EACH)
async def test_the_page_sits_out_a_deploy_and_shows_every_line_once(
    browser: Browser, tmp_path: Path, proxy: Proxy
) -> None:
    async with behind(proxy, tmp_path) as house, visit(browser, house) as tab:
        connection, lines = tab.page.locator("#connection"), tab.page.locator("#lines [data-seq] .text")
        await tab.page.goto(house.site.url)
        await expect(connection).to_have_text("Live")
        job = job_of(house.relay, 3)
        await expect(lines).to_have_count(3)
        await house.site.stop()
        await expect(connection).to_have_text("The relay is restarting; waiting for it")
        house.relay.bus.publish(job, Log(line="meanwhile"))
        await house.site.start()
        await expect(connection).to_have_text("Live")
        house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        await expect(lines).to_have_text(["line 1", "line 2", "line 3", "meanwhile", "done, 1 file"])


@pytest.mark.parametrize("proxy", EACH)
async def test_nine_streams_and_the_cancel_button_share_one_connection(
    browser: Browser, tmp_path: Path, proxy: Proxy
) -> None:
    """On HTTP/1.1 the seventh stream would wait for the first six, and so would the button."""
    async with behind(proxy, tmp_path, open_to_operators) as house, visit(browser, house) as tab:
        jobs = [house.relay.follow("scripted", "t"), *(job_of(house.relay) for _ in range(8))]
        opened = await tab.page.evaluate(
            """(urls) => Promise.all(urls.map((url) => new Promise((resolve) => {
              const source = new EventSource(url);
              source.onopen = () => resolve(source.readyState);
            })))""",
            [f"/v1/jobs/{job.id}/events" for job in jobs],
        )
        status = await tab.page.evaluate(
            "(url) => fetch(url, { method: 'POST' }).then((response) => response.status)",
            f"/v1/jobs/{jobs[0].id}/cancel",
        )
        spoken = await tab.page.evaluate(
            "[...new Set(performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol))]"
        )

    assert (opened, status, spoken) == ([1] * 9, 202, ["h2"])


@pytest.mark.nginx
async def test_a_page_behind_tls_may_use_the_relay_only_because_of_its_public_url(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        behind(PROXIES["nginx"], tmp_path, open_to_operators) as house,
        visit(browser, house) as tab,
    ):
        job = house.relay.follow("scripted", "t")
        cancel = "(url) => fetch(url, { method: 'POST' }).then((response) => response.json())"
        path = f"/v1/jobs/{job.id}/cancel"
        with_it = await tab.page.evaluate(cancel, path)
        await house.site.stop()
        house.site.url = f"https://{house.site.url.partition('://')[2].partition(':')[0]}"
        await house.site.start()
        without = await tab.page.evaluate(cancel, path)

    assert with_it["status"] == "cancelled"
    assert without["detail"] == "pages of this origin may not use this relay"
