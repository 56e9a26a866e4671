"""The ways in that the page on access shows are tried in its order, by the drawing and by the table."""

import re
import runpy
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from aiohttp.web import Request

from relay import Relay
from relay.config.access_settings import AccessSettings, KeySettings, ProxySettings
from relay.events import Log
from relay.secret import Secret
from relay.testing import ManualClock
from tests.web.serving import serve_app
from web import Access, create_app
from web.middleware.access_check import check_access
from web.middleware.origin_check import check_origin

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| (\d) \| (.+?) \|", re.MULTILINE)

OWNERS = {
    "application": "the application's user",
    "bearer": "key:ann",
    "ticket": "key:bob",
    "session": "key:eve",
    "proxy": "proxy:dan",
}
"""Each way of the drawing, and the subject that it proves here."""

OF_THE_TABLE = {
    "application": "the application",
    "bearer": "API key",
    "ticket": "ticket",
    "session": "session",
    "proxy": "trusted proxy",
}
KEYS = {name: f"rlk_{name}-0123456789-0123456789-0123456789" for name in ("ann", "bob", "eve")}
SECRET = "proxy-0123456789-0123456789-0123456789"
SETTINGS = AccessSettings(
    keys=tuple(KeySettings(name=name, key=Secret(key)) for name, key in KEYS.items()),
    proxy=ProxySettings(networks=("127.0.0.0/8",), secret=Secret(SECRET)),
)


def ways() -> list[str]:
    """The ways in as the drawing has them, from the left to the right."""
    made: dict[str, Any] = runpy.run_path(str(DOCS / "drawings.py"))
    boxes = {box.name: box for box in made["ACCESS"].boxes}
    frame = boxes["the first that fits"]
    inside = [box for box in boxes.values() if box is not frame and frame.y < box.y < frame.y + frame.height]
    return [box.name for box in sorted(inside, key=lambda box: box.x) if box.x < frame.x + frame.width]


async def authorize(request: Request) -> Access | None:
    return Access(subject=OWNERS["application"]) if "X-Application" in request.headers else None


async def presented(client: ClientSession, way: str) -> tuple[dict[str, str], str]:
    """The headers, and the query, that prove the subject of *way*."""
    key = {"Authorization": f"Bearer {KEYS.get(OWNERS[way].removeprefix('key:'), '')}"}
    match way:
        case "application":
            return {"X-Application": "yes"}, ""
        case "bearer":
            return key, ""
        case "ticket":
            made = await client.post("/v1/tickets", json={}, headers=key)
            return {}, f"&ticket={(await made.json())['ticket']}"
        case "session":
            answer = await client.post("/v1/session", headers=key)
            return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}, ""
        case _:
            return {"X-Forwarded-User": "dan", "X-Relay-Proxy": SECRET}, ""


async def test_of_several_ways_the_first_of_the_page_counts() -> None:
    relay = Relay([], clock=ManualClock())
    async with serve_app(create_app(relay, access=SETTINGS, authorize=authorize)) as client:
        for owner in OWNERS.values():
            relay.bus.publish(relay.registry.admit(owner=owner), Log(line=f"of {owner}"))
        for number, first in enumerate(ways()):
            headers, query = {"Accept": "application/x-ndjson"}, "?follow=false"
            for way in ways()[number:]:
                more, field = await presented(client, way)
                headers, query = headers | more, query + field
            text = await (await client.get(f"/v1/events{query}", headers=headers)).text()
            assert [owner for owner in OWNERS.values() if f"of {owner}" in text] == [OWNERS[first]]


async def test_a_token_or_a_ticket_that_is_none_is_not_saved_by_a_later_way() -> None:
    relay = Relay([], clock=ManualClock())
    async with serve_app(create_app(relay, access=SETTINGS)) as client:
        headers = {**(await presented(client, "session"))[0], **(await presented(client, "proxy"))[0]}
        wrong = await client.get("/v1/jobs", headers=headers | {"Authorization": "Bearer wrong"})
        late = await client.get("/v1/events?ticket=wrong", headers=headers)

    assert (wrong.status, late.status) == (401, 204)


def test_the_table_of_ways_has_the_order_of_the_drawing() -> None:
    table = [way for _, way in ROW.findall((DOCS / "explanation" / "access.md").read_text(encoding="utf-8"))]

    assert ways() == list(OWNERS)
    assert [way for way in table if way in OF_THE_TABLE.values()] == [OF_THE_TABLE[way] for way in ways()]
    assert len(table) == len(ways()) + 2, "a bearer token is one of three kinds"


def test_host_and_origin_are_checked_before_an_access_is_looked_for() -> None:
    middlewares = list(create_app(Relay([])).middlewares)

    assert middlewares.index(check_origin) < middlewares.index(check_access)
