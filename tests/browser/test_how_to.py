"""The scripts of the how-to pages, run as a user's page would run them."""

import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp.web import Request
from playwright.async_api import Browser, Route

from relay import Job
from tests.browser.house import House, open_house
from tests.web.access.keys import ANN, SETTINGS, bearer
from web import Access

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def scripts(page: str) -> list[str]:
    return re.findall(r"^```js\n(.*?)^```$", (HOW_TO / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


SCRIPTS = [
    pytest.param(script, id=f"{page} {number}")
    for page in ("let-users-watch-their-jobs.md", "use-in-a-browser.md")
    for number, script in enumerate(scripts(page))
]


async def authorize(request: Request) -> Access | None:
    """The session of the application, as on the page of the documentation."""
    if request.cookies.get("session") != "session-of-ann":
        return None
    return Access(subject="key:ann", scopes=frozenset({"jobs:read", "jobs:submit"}))


async def ticket(house: House, job: Job) -> str:
    async with (
        aiohttp.ClientSession(headers=bearer(ANN)) as server,
        server.post(f"{house.server.url}v1/tickets", json={"jobs": [job.id]}) as response,
    ):
        assert response.status == 201
        return str((await response.json())["ticket"])


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_of_the_documentation_receives_a_record(script: str, browser: Browser) -> None:
    async with open_house(prefix="/relay", access=SETTINGS, authorize=authorize) as house:
        [job] = house.play("happy", owner="key:ann")
        origin = house.server.url.removesuffix("/relay/")
        context = await browser.new_context()
        try:
            page = await context.new_page()

            async def give_page(route: Route) -> None:
                await route.fulfill(body="<!doctype html><title>A page</title>", content_type="text/html")

            async def give_ticket(route: Route) -> None:
                await route.fulfill(body=await ticket(house, job), content_type="text/plain")

            await page.route(f"{origin}/", give_page)
            await page.route(f"{origin}/ticket?*", give_ticket)
            if "token" not in script and "ticket" not in script:
                await context.add_cookies([{"name": "session", "value": "session-of-ann", "url": origin}])
            await page.goto(f"{origin}/")
            await page.evaluate(
                "([job, token]) => Object.assign(window, { getAccessToken: async () => token }, job)",
                [{} if "const { job }" in script else {"job": job.id}, ANN],
            )
            async with page.expect_console_message(lambda said: "accepted for sora" in said.text):
                await page.add_script_tag(
                    type="module", content=script.replace("https://relay.example.com", f"{origin}/relay")
                )
        finally:
            await context.close()
