"""The page and a relay, or something in its place, that sends whatever it likes."""

import json
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.browser.house import open_house
from tests.browser.proxy import open_proxy
from tests.browser.visit import Visit
from tests.browser.watcher import FAST, lines, tabs

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RECORD: dict[str, Any] = {
    "v": 1,
    "job": "job_x",
    "seq": 1,
    "at": "2026-01-01T00:00:00Z",
    "type": "log",
    "level": "info",
    "text": "fine",
}

ODD_RECORDS: list[Any] = [
    None,
    7,
    "text",
    [],
    {**RECORD, "job": None},
    {**RECORD, "job": {"toString": 1}},
    {**RECORD, "seq": "1"},
    {**RECORD, "seq": 1e300},
    {**RECORD, "seq": -1.5},
    {**RECORD, "at": "yesterday"},
    {**RECORD, "at": None},
    {**RECORD, "level": "loud"},
    {**RECORD, "level": ["info"]},
    {**RECORD, "text": {"html": "<b>"}},
    {**RECORD, "text": None},
    {**RECORD, "type": "progress", "percent": "many", "status": "running"},
    {**RECORD, "type": "done", "urls": "javascript:alert(1)"},
    {**RECORD, "type": "done", "urls": [None, {}]},
]

ODD_NOTICES: list[tuple[str, Any]] = [
    ("snapshot", {}),
    ("snapshot", {"jobs": None}),
    ("snapshot", {"jobs": [None, 1, "job", {"job": 7}]}),
    ("snapshot", {"jobs": [{"job": "job_y", "seq": 1, "percent": "9%"}]}),
    ("gap", {"from": 1, "to": None}),
    ("gap", {}),
    ("skipped", {"missed": "some"}),
    ("gone", {}),
    ("exchange", {"seconds": "long"}),
    ("constructor", {}),
    ("__proto__", {"jobs": []}),
    ("hasOwnProperty", {}),
    ("news", {"html": "<script>document.title = 'owned'</script>"}),
]


def block(event: str, data: str, id: str = "x-0") -> bytes:
    return f"event: {event}\nid: {id}\ndata: {data}\n\n".encode()


async def test_blocks_that_are_no_records_and_no_notices_are_passed_over(visitor: Visit) -> None:
    odd = b"".join(
        [
            *(
                block(str((data or {}).get("type", "log")) if isinstance(data, dict) else "log", json.dumps(data))
                for data in ODD_RECORDS
            ),
            *(block(event, json.dumps(data)) for event, data in ODD_NOTICES),
            *(block("log", text) for text in ("", "{", "NaN", "[" * 10_000, "\x00", '{"__proto__": {"seq": 1}}')),
            block("log", json.dumps({**RECORD, "text": "<img src=x onerror=\"document.title='owned'\">"}), "x-1"),
        ]
    )
    async with open_house() as house, open_proxy(house) as proxy:
        proxy.instead.append(odd)
        await visitor.page.goto(proxy.url)
        await expect(visitor.lines.first.locator(".text")).to_have_text(
            "<img src=x onerror=\"document.title='owned'\">"
        )
        [job] = house.play("happy")
        await house.clock.advance(60)
        await expect(visitor.card(job.id).locator(".status")).to_have_text("succeeded")
        assert await visitor.page.locator("main img, main script").count() == 0
        assert "owned" not in await visitor.page.title()


@pytest.mark.parametrize("retry", [0, 10**12])
async def test_a_retry_that_would_be_a_storm_or_for_ever_is_bounded(browser: Browser, retry: int) -> None:
    """0 makes as many requests as the network carries; a timer of more than 24 days rings at once."""
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        bye = f'event: bye\nretry: {retry}\nid: x-0\ndata: {{"reason": "renewed"}}\n\n'.encode()
        proxy.instead.extend([bye] * 3)
        tab = await some.open(proxy)
        pauses = await tab.page.evaluate(_PAUSES, [FAST, 2])
        assert all(200 <= pause <= 300_000 for pause in pauses), pauses


_PAUSES = """
async ([timing, count]) => {
  // The hub runs in this page, where its timers can be seen. What resolves a promise is the end of a pause.
  const pauses = [];
  const real = setTimeout;
  window.setTimeout = (work, delay, ...rest) => {
    const mine = String(work).includes("native code");
    if (mine) pauses.push(delay);
    return real(work, mine ? 0 : delay, ...rest);
  };
  const { serve } = await import("/static/relay-worker.js");
  const { port1, port2 } = new MessageChannel();
  serve(port2);
  port1.start();
  port1.postMessage({ from: "a", wish: { jobs: null, level: "debug", debug: false, position: "", timing } });
  while (pauses.length < count) await new Promise((resolve) => real(resolve, 10));
  port1.postMessage({ from: "a" });
  return pauses.slice(0, count);
}
"""


async def test_a_worker_of_an_older_release_is_left_to_the_pages_of_that_release(browser: Browser) -> None:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        [_] = house.play("happy")
        path = "/static/relay-worker.js"
        # It takes every tab's connection, and answers in a language of its own.
        proxy.files[path] = "addEventListener('connect', ({ ports: [port] }) => { port.postMessage({ v: 1 }); });"
        old = await some.open(proxy)
        await old.page.evaluate(
            """path => new Promise((resolve) => {
              window.worker = new SharedWorker(path, { type: "module", name: "relay" });
              window.worker.port.onmessage = resolve;
            })""",
            path,
        )
        del proxy.files[path]
        new = await some.open(proxy)
        await new.watch()
        await house.clock.advance(60)
        await new.heard(house.relay.journal.head)
        assert await new.story() == lines(house.relay)
