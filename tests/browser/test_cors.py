"""Pages of other origins in a real browser: one that `origins` lists, and one that it does not."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.web import Request, StreamResponse
from msgspec import Struct
from playwright.async_api import Browser, Page

from relay import Relay
from relay.events import Done, Log
from tests.browser.elsewhere import plain_page, served
from tests.browser.house import open_house
from web import create_app

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SEND = """
async ([url, options]) => {
  try {
    const response = await fetch(url, { credentials: "include", ...options });
    const headers = Object.fromEntries(response.headers);
    return { status: response.status, type: response.type, headers, body: await response.text() };
  } catch (error) {
    return { status: 0, type: error.name, headers: {}, body: "" };
  }
}
"""

LISTEN = """
(url) => new Promise((resolve) => {
  const source = new EventSource(url, { withCredentials: true }), heard = [];
  for (const type of ["log", "done"]) source.addEventListener(type, () => heard.push(type));
  source.addEventListener("done", () => { source.close(); resolve(heard); });
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(["refused", ...heard]); };
})
"""

SANDBOXED = """
(url) => new Promise((resolve) => {
  addEventListener("message", ({ data, origin }) => resolve([origin, data]));
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = `<script>
    fetch(${JSON.stringify(url)}).then((response) => response.status, (error) => error.name)
      .then((found) => parent.postMessage(found, "*"));
  </script>`;
  document.body.append(frame);
})
"""


class Far(Struct):
    """A relay, the requests that it was sent, and a page of another origin."""

    relay: Relay
    url: str
    page: Page
    seen: list[tuple[str, str, int]]

    async def send(self, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.page.evaluate(SEND, [f"{self.url}{path}", options])
        return found


@asynccontextmanager
async def far(browser: Browser, *, listed: bool) -> AsyncGenerator[Far]:
    seen = list[tuple[str, str, int]]()

    async def note(request: Request, response: StreamResponse) -> None:
        seen.append((request.method, request.path, response.status))

    async with open_house() as house, served(plain_page()) as origin:
        app = create_app(house.relay, origins={origin} if listed else {"https://app.example"})
        app.on_response_prepare.append(note)
        async with served(app) as url:
            context = await browser.new_context()
            try:
                page = await context.new_page()
                await page.goto(f"{origin}/")
                yield Far(house.relay, url, page, seen)
            finally:
                await context.close()


def ended_job(relay: Relay) -> str:
    job = relay.registry.admit()
    relay.bus.publish(job, Log(line="line"))
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    return job.id


async def test_a_page_of_a_listed_origin_reads_submits_and_sees_what_went_wrong(browser: Browser) -> None:
    async with far(browser, listed=True) as here:
        job = ended_job(here.relay)
        read = await here.send(f"/v1/jobs/{job}", headers={"Authorization": "Bearer canary"})
        assert (read["status"], read["type"], json.loads(read["body"])["job"]) == (200, "cors", job)
        following = {"upstream": "sora", "task": "task_1"}
        headers = {"Content-Type": "application/json", "Idempotency-Key": "key"}
        posted = await here.send("/v1/jobs", method="POST", headers=headers, body=json.dumps(following))
        assert posted["status"] == 201
        assert posted["headers"]["location"].startswith("/v1/jobs/job_")
        missing = await here.send("/v1/jobs/job_x", headers={"Last-Event-ID": "a-1"})
        assert (missing["status"], "no job" in missing["body"]) == (404, True)
        other = await here.send("/v1/jobs", headers={"X-Other": "1"})
        assert (other["status"], other["type"]) == (0, "TypeError")
        assert [one for one in here.seen if one[0] == "OPTIONS"] == [
            ("OPTIONS", f"/v1/jobs/{job}", 204),
            ("OPTIONS", "/v1/jobs", 204),
            ("OPTIONS", "/v1/jobs/job_x", 204),
            ("OPTIONS", "/v1/jobs", 204),
        ]


async def test_a_page_of_a_listed_origin_follows_a_stream_with_eventsource_and_with_fetch(browser: Browser) -> None:
    async with far(browser, listed=True) as here:
        path = f"/v1/jobs/{ended_job(here.relay)}/events"
        assert await here.page.evaluate(LISTEN, f"{here.url}{path}") == ["log", "done"]
        fetched = await here.send(path, headers={"Authorization": "Bearer canary", "Accept": "text/event-stream"})
        assert (fetched["status"], fetched["headers"]["relay-heartbeat"]) == (200, "15")
        assert fetched["body"].count("\nevent: ") == 2


async def test_a_page_of_any_other_origin_reads_nothing_and_changes_nothing(browser: Browser) -> None:
    async with far(browser, listed=False) as here:
        path = f"/v1/jobs/{ended_job(here.relay)}"
        jobs = here.relay.jobs()
        assert await here.page.evaluate(LISTEN, f"{here.url}{path}/events") == ["refused"]
        form = {"method": "POST", "body": "{}", "headers": {"Content-Type": "text/plain"}}
        cases: list[tuple[str, dict[str, Any]]] = [
            (path, {}),
            (path, {"headers": {"Authorization": "Bearer canary"}}),
            ("/static/relay.js", {}),
            (f"{path}/cancel", form),
            ("/v1/jobs", {**form, "headers": {"Content-Type": "application/json"}}),
        ]
        for target, options in cases:
            found = await here.send(target, **options)
            assert (found["status"], found["type"], found["body"]) == (0, "TypeError", ""), target
        opaque = await here.send("/v1/jobs", mode="no-cors")
        assert (opaque["status"], opaque["type"], opaque["body"]) == (0, "opaque", "")
        assert {status for _, _, status in here.seen} == {403}
        assert here.relay.jobs() == jobs


async def test_a_sandboxed_frame_of_a_listed_page_has_no_origin_and_is_refused(browser: Browser) -> None:
    async with far(browser, listed=True) as here:
        assert await here.page.evaluate(SANDBOXED, f"{here.url}/v1/jobs") == ["null", "TypeError"]
        assert here.seen == [("GET", "/v1/jobs", 403)]
