"""Tickets: each opens one stream once, in the process that issued it, and goes on with the cookie that it was given."""

import asyncio
import json
from typing import Final

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Application, Request, Response

from relay import Relay
from relay.polling.requests import at_once
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.access.credentials import JSON, bearer
from tests.web.access.house import House, house
from tests.web.access.keys import ANN, BOB, SETTINGS
from tests.web.serving import serve_app
from web import Access, create_app
from web.access.denied import DeniedError
from web.access.signing import Signer
from web.access.tickets import FIRST_WITHIN, MOST_COOKIES, MOST_OF_A_SUBJECT, MOST_TICKETS, Tickets

EVENTS: Final = "/v1/events"


class Store(Tickets):
    """Tickets with the time in *now*."""

    def __init__(self, key: bytes | None = None) -> None:
        self.time = 1_000.0
        super().__init__(Signer(key), lambda: self.time)

    def new(self, subject: str = "ann", seconds: float = 3_600) -> str:
        return self.issue(Access(subject=subject), self.time + seconds)

    def opens(self, ticket: str, *fields: tuple[str, str], path: str = EVENTS, method: str = "GET") -> str | None:
        """The cookie that is set, empty for none; None where the ticket is refused."""
        request = make_mocked_request(method, f"{path}?ticket={ticket}", headers=dict(fields))
        try:
            at_once(self.find(request, secure=False, path=path))
        except DeniedError as denied:
            return None if (denied.status, denied.ambient, denied.failed) == (401, True, True) else "another refusal"
        lines = [line for lines in request.values() if isinstance(lines, list) for line in lines]
        return str(lines[-1]) if lines else ""


def cookie(line: str | None) -> tuple[str, str]:
    assert line
    return ("Cookie", line.partition(";")[0])


async def ticket(served: House, key: str = ANN, body: bytes = b"{}") -> str:
    made = await served.ask("POST /v1/tickets", bearer(key), JSON, body=body)
    return str(json.loads(made.body)["ticket"])


async def test_of_two_first_requests_at_once_one_opens_the_stream() -> None:
    async with house() as served:
        for _ in range(10):
            opens = await ticket(served)
            both = await asyncio.gather(*[served.ask(f"GET {EVENTS}?ticket={opens}") for _ in range(3)])
            assert sorted(one.status for one in both) == [200, 204, 204]
            assert [one.status for one in both if "set-cookie" in one.headers] == [200]


async def test_a_ticket_goes_on_over_a_restart_with_its_cookie_and_is_not_begun_after_one() -> None:
    async with house(SETTINGS) as served:
        used, fresh = await ticket(served), await ticket(served)
        first = await served.ask(f"GET {EVENTS}?ticket={used}")
        held = f"Cookie: {first.headers['set-cookie'].partition(';')[0]}"
    async with house(SETTINGS) as served:
        found = [
            (await served.ask(f"GET {EVENTS}?ticket={used}", held)).status,
            (await served.ask(f"GET {EVENTS}?ticket={used}")).status,
            (await served.ask(f"GET {EVENTS}?ticket={fresh}")).status,
            (await served.ask(f"GET {EVENTS}?ticket={await ticket(served)}")).status,
        ]

    assert found == [200, 204, 204, 200]


def test_it_is_begun_in_time_and_once_by_a_get() -> None:
    store = Store()
    one, late, head = store.new(), store.new(), store.new()

    assert store.opens(head, method="HEAD") is None
    assert store.opens(head)
    set_by_it = store.opens(one)
    store.time += FIRST_WITHIN
    assert store.opens(late)
    late = store.new()
    store.time += FIRST_WITHIN + 0.001
    assert store.opens(late) is None
    for ahead in (0, FIRST_WITHIN, 3_400):
        store.time += ahead
        assert store.opens(one) is None
        assert store.opens(one, cookie(set_by_it)) == ""
    store.time += 3_600
    assert store.opens(one, cookie(set_by_it)) is None


def test_a_clock_that_is_set_back_gives_no_second_use() -> None:
    store = Store()
    one = store.new()
    assert store.opens(one)

    store.time += FIRST_WITHIN + 1
    assert store.opens(store.new())
    for _ in range(2):
        store.time -= FIRST_WITHIN
        assert store.opens(one) is None


def test_each_ticket_has_a_cookie_of_its_own_for_its_path() -> None:
    store = Store()
    one, other = store.new(), store.new()
    lines = store.opens(one), store.opens(other)

    names = {cookie(line)[1].partition("=")[0] for line in lines}
    assert len(names) == 2
    assert all(line and f"; Path={EVENTS}; Max-Age=3600; HttpOnly; SameSite=Strict" in line for line in lines)
    both = ("Cookie", "; ".join(cookie(line)[1] for line in lines))
    assert [store.opens(one, both), store.opens(other, both)] == ["", ""]
    assert store.opens(one, cookie(lines[1])) is None


def test_the_oldest_cookies_of_a_path_give_way() -> None:
    store = Store()
    held = [cookie(store.opens(store.new()))[1] for _ in range(MOST_COOKIES + 2)]
    request = make_mocked_request("GET", f"{EVENTS}?ticket={store.new()}", headers={"Cookie": "; ".join(held)})
    at_once(store.find(request, secure=False, path=EVENTS))

    (lines,) = [value for value in request.values() if isinstance(value, list)]
    expired = [line.partition("=")[0] for line in lines if "Max-Age=0" in line]
    assert expired == [one.partition("=")[0] for one in held[:3]]


def test_of_another_site_the_cookie_is_partitioned_where_it_can_be() -> None:
    store = Store()
    for secure, site, expected in (
        (True, "cross-site", "SameSite=None; Partitioned; Secure"),
        (True, "same-site", "SameSite=Strict; Secure"),
        (False, "cross-site", "SameSite=Strict"),
    ):
        headers = {"Sec-Fetch-Site": site}
        request = make_mocked_request("GET", f"{EVENTS}?ticket={store.new()}", headers=headers)
        at_once(store.find(request, secure=secure, path=EVENTS))
        (lines,) = [value for value in request.values() if isinstance(value, list)]
        assert lines[0].endswith(f"; HttpOnly; {expected}")


def test_no_subject_uses_up_the_tickets_of_another() -> None:
    store = Store()
    for _ in range(MOST_OF_A_SUBJECT):
        store.new()
    with pytest.raises(DeniedError) as refused:
        store.new()
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "30"})
    assert store.new("bob")

    store.time += FIRST_WITHIN + 0.001
    assert store.new()


def test_so_many_tickets_may_be_open_and_none_of_them_is_dropped_for_another() -> None:
    store = Store()
    first = store.new("first")
    for number in range(MOST_TICKETS - 1):
        store.new(f"user {number // 90}")

    with pytest.raises(DeniedError):
        store.new("last")
    assert store.opens(first)
    assert store.new("last"), "a ticket that was used makes room"
    store.time += FIRST_WITHIN + 0.001
    assert store.new("one more")
    assert (len(store._unused), dict(store._of)) == (1, {"one more": 1})


async def test_the_limit_of_tickets_is_an_answer() -> None:
    async with house() as served:
        found = [(await served.ask("POST /v1/tickets", bearer(ANN), JSON, body=b"{}")).status for _ in range(101)]
        assert (found.count(201), found[-1]) == (100, 429)
        assert (await served.ask("POST /v1/tickets", bearer(BOB), JSON, body=b"{}")).status == 201


async def test_as_a_part_of_an_application_paths_and_cookies_are_those_that_the_browser_sees() -> None:
    async def authorize(request: Request) -> Access | None:
        name = request.cookies.get("session")
        return Access(subject=name, scopes=frozenset({"jobs:read", "jobs:submit"})) if name else None

    async def home(_: Request) -> Response:
        return Response(text="home")

    relay = Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())
    outer = Application()
    outer.router.add_get("/", home)
    outer.add_subapp("/relay", create_app(relay, authorize=authorize, send_timeout=3_600, slow_after=3_600))
    async with serve_app(outer) as client:
        ann, bob = {"Cookie": "session=ann"}, {"Cookie": "session=bob"}
        assert await status(client, "/", {}) == 200
        assert await status(client, "/relay/healthz", {}) == 200
        assert await status(client, "/relay/v1/jobs", {}) == 401
        assert await status(client, "/v1/jobs", ann) == 404
        made = await client.post("/relay/v1/jobs", json={"upstream": "scripted", "task": "t"}, headers=ann)
        body = await made.json()
        where = made.headers["Location"]
        assert (made.status, where) == (201, f"/relay/v1/jobs/{body['job']}")
        assert [await status(client, where, who) for who in (ann, bob, {})] == [200, 404, 401]

        link, _, capability = body["watch"].partition("#watch=")
        assert await status(client, link, {}) == 200
        assert await status(client, where, {"Authorization": f"Bearer {capability}"}) == 200

        issued = await client.post("/relay/v1/tickets", json={}, headers=ann)
        path = f"{where}/events?ticket={(await issued.json())['ticket']}"
        async with client.get(path) as first:
            assert first.status == 200
            line = first.headers["Set-Cookie"]
        assert f"; Path={where}/events;" in line
        assert await status(client, path, {}) == 204
        assert await status(client, path, {"Cookie": line.partition(";")[0]}) == 200


async def status(client: ClientSession, path: str, headers: dict[str, str]) -> int:
    async with client.get(path, headers=headers) as answered:
        return answered.status
