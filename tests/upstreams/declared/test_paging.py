"""A declared list is read page by page: by a cursor, a number, an offset or a link. Else it may be but a page."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from relay.errors import UsageError
from relay.jobs.observations import Answer, Observation
from relay.upstreams import Declared
from relay.upstreams.declared.declaration import PollRequest, ResultRequest
from tests.upstreams.stub import Stub, reply

LIST = PollRequest(path="v1/tasks", items="data", id="id", status="status", urls="url", query={"limit": 3})
BY_CURSOR = replace(LIST, next="cursor", query={"limit": 3, "after": "{next?}"})
BY_PAGE = replace(LIST, query={"limit": 3, "page": "{page}"})
BY_OFFSET = replace(LIST, query={"limit": 3, "skip": "{offset}"})
BY_LINK = replace(LIST, next="links.next")

ITEMS = [{"id": f"t{number}", "status": "running"} for number in range(7)]


class Site(Stub):
    """Serves ITEMS three at a time; *answer* makes the body and the headers of a page from its first item's number."""

    def __init__(self, start: Callable[[Mapping[str, str]], int], answer: Callable[[int], tuple[Any, dict[str, str]]]):
        super().__init__()
        self._start = start
        self._answer = answer

    def next_answer(self, target: str) -> bytes:
        query = {key: values[0] for key, values in parse_qs(urlsplit(target).query).items()}
        body, headers = self._answer(self._start(query))
        return reply(json.dumps(body), **headers)


def page(start: int, **beside: object) -> dict[str, object]:
    return {"data": ITEMS[start : start + 3], **beside}


def following(start: int) -> int | None:
    return start + 3 if start + 3 < len(ITEMS) else None


def link(start: int) -> str | None:
    return None if following(start) is None else f"http://inner.example:9/base/v1/tasks?limit=3&from={following(start)}"


WAYS: dict[str, tuple[PollRequest, Site]] = {
    "cursor": (
        BY_CURSOR,
        Site(
            lambda query: int(query.get("after", "c0")[1:]),
            lambda start: (page(start, cursor=following(start) and f"c{following(start)}"), {}),
        ),
    ),
    "page": (BY_PAGE, Site(lambda query: 3 * int(query["page"]) - 3, lambda start: (page(start), {}))),
    "offset": (BY_OFFSET, Site(lambda query: int(query["skip"]), lambda start: (page(start), {}))),
    "address": (
        BY_LINK,
        Site(lambda query: int(query.get("from", 0)), lambda start: (page(start, links={"next": link(start)}), {})),
    ),
    "link header": (
        LIST,
        Site(
            lambda query: int(query.get("from", 0)),
            lambda start: (page(start), {"link": f'<{link(start)}>; rel="next"'} if link(start) else {}),
        ),
    ),
}


async def asked(poll: PollRequest, site: Stub, *tasks: str, base: str = "/base") -> Answer:
    async with site, Declared(site.url + base, "token", poll=poll) as upstream:
        return await upstream.observe(tasks)


@pytest.mark.parametrize("way", WAYS)
async def test_pages_are_read_until_all_that_is_wanted_is_found(way: str) -> None:
    poll, site = WAYS[way]
    answer = await asked(poll, site, "t1", "t4")
    assert (sorted(answer.tasks), answer.listed, len(site.requests)) == (["t1", "t4"], 6, 2)
    assert all(target.startswith("/base/v1/tasks?limit=3") for target in site.paths)
    site.requests.clear()


@pytest.mark.parametrize("way", WAYS)
async def test_a_list_that_was_read_to_its_end_is_the_whole(way: str) -> None:
    poll, site = WAYS[way]
    answer = await asked(poll, site, "t6", "gone")
    assert (list(answer.tasks), answer.listed, answer.partial, len(site.requests)) == (["t6"], 7, False, 3)
    site.requests.clear()


@pytest.mark.parametrize(
    "link",
    ["https://elsewhere/other?page=2", "http://[", "javascript:1", "//evil/x", "/base/v1/tasks", "tasks2?a=1", 7],
)
async def test_a_link_that_leads_elsewhere_is_not_followed(link: object) -> None:
    site = Site(lambda _: 0, lambda start: (page(start, links={"next": link}), {}))
    answer = await asked(BY_LINK, site, "t6")
    assert (answer.partial, len(site.requests)) == (True, 1)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"data": ITEMS[:3]}, {}),
        ({"data": [*ITEMS, *ITEMS[:3]]}, {}),
        ({"data": ITEMS[:2], "has_more": True}, {}),
        ({"data": ITEMS[:2], "meta": {"nextCursor": "x"}}, {}),
        ({"data": ITEMS[:2], "total": 3}, {}),
        ({"data": ITEMS[:2]}, {"link": '<https://elsewhere/x?y>; rel="next"'}),
    ],
)
async def test_a_list_that_may_be_a_page_proves_nothing_where_no_way_to_page_is_declared(
    body: object, headers: dict[str, str]
) -> None:
    answer = await asked(LIST, Stub(reply(json.dumps(body), **headers)), "gone")
    assert (answer.tasks, answer.partial) == ({}, True)


async def test_a_list_that_shows_no_sign_of_another_page_is_the_whole() -> None:
    answer = await asked(LIST, Stub(reply(json.dumps({"data": ITEMS[:2], "total": 2, "next": None}))), "gone")
    assert (answer.tasks, answer.partial) == ({}, False)


async def test_pages_without_end_are_left_and_a_page_that_fails_costs_nothing_that_was_found() -> None:
    endless = Site(lambda query: int(query["page"]), lambda _: (page(0), {}))
    answer = await asked(BY_PAGE, endless, "gone")
    assert (answer.partial, len(endless.requests)) == (True, 20)
    broken = Stub(reply(json.dumps({"data": ITEMS[:3]})), reply("{}", "500 Oops"))
    answer = await asked(BY_PAGE, broken, "t1", "gone")
    assert (list(answer.tasks), answer.partial) == (["t1"], True)


async def test_a_task_that_moves_to_the_next_page_is_not_listed_twice() -> None:
    moved = Stub(reply(json.dumps({"data": ITEMS[:3]})), reply(json.dumps({"data": ITEMS[2:4]})))
    answer = await asked(BY_PAGE, moved, "t2", "gone")
    assert answer.tasks == {"t2": Observation(status="running", raw_status="running")}


async def test_results_are_paged_as_well() -> None:
    done = [{"id": f"t{number}", "url": f"https://v/{number}"} for number in range(5)]
    pages = [reply(json.dumps({"data": done[start : start + 3]})) for start in (0, 3)]
    result = ResultRequest(path="results", items="data", id="id", urls="url", query={"page": "{page}"})
    poll = PollRequest(path="tasks/{task}", status="status")
    async with Stub(*pages) as stub, Declared(stub.url, "t", poll=poll, result=result) as upstream:
        answer = await upstream.fetch_result(["t1", "t4"])
    assert (sorted(answer.tasks), stub.paths) == (["t1", "t4"], ["/results?page=1", "/results?page=2"])


@pytest.mark.parametrize(
    ("poll", "message"),
    [
        (replace(LIST, query={"a": "{next?}"}), "poll has the placeholder {next}, and no key 'next'"),
        (replace(LIST, next="n", query={"a": "{next}"}), "which the first page has not: write {next?}"),
        (replace(LIST, next="n", query={"a": "{page}"}), "two ways to page; take one"),
        (replace(LIST, next="["), "poll.next is no JMESPath expression"),
        (PollRequest(path="t/{task}", status="s", urls="u", next="n"), "poll.next is for a list"),
        (PollRequest(path="t/{task}", status="s", urls="u", query={"p": "{page}"}), "unknown placeholder {page}"),
    ],
)
def test_a_way_to_page_that_cannot_work_is_refused_with_its_key(poll: PollRequest, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Declared("https://api.example", "t", poll=poll)
    assert message in str(caught.value)
