"""What a client accepts decides what it gets, as RFC 9110 says; and what it names as its last id, where it goes on."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse
from hypothesis import given
from hypothesis import strategies as st

from relay import Relay
from relay.events import Done, Log
from relay.testing import ManualClock
from tests.web.serving import serve
from web.streaming.accept_header import RANGES, READ, best_offer, parse_accept

SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay([], clock=ManualClock()) as relay:
        yield relay


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ([], SSE),
        ([""], SSE),
        ([" , ,"], SSE),
        (["*/*"], SSE),
        (["text/*"], SSE),
        (["TEXT/Event-Stream; Charset=UTF-8"], SSE),
        (["text/event-stream;q=0"], None),
        (["text/event-stream;q=0.000, text/*"], None),
        (["text/event-stream; q=0 , */*"], JSON),
        (["text/event-stream;q=0, application/x-ndjson"], NDJSON),
        (["text/*;q=0, */*"], JSON),
        (["*/*;q=0"], None),
        (["*/*;q=0, text/event-stream"], SSE),
        (["*/*;q=0", "application/json"], JSON),
        (["application/json, text/plain, */*"], JSON),
        (["application/json", "text/plain", "*/*"], JSON),
        (["application/json, text/javascript, */*; q=0.01"], JSON),
        (["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], SSE),
        (["application/json, text/event-stream"], SSE),
        (["application/json;q=0.9, text/event-stream;q=0.8"], JSON),
        (["application/x-ndjson;q=0.5, text/event-stream;q=0.4, */*;q=0.1"], NDJSON),
        (["application/x-ndjson, application/json"], NDJSON),
        (["application/*"], JSON),
        (["application/*;q=0.3, text/*;q=0.2"], JSON),
        (["text/html"], None),
        (["text/html, */*;q=0.1"], SSE),
        (["text/event-stream;q=high"], SSE),
        (["text/event-stream;q=2, application/json"], SSE),
        (["text/event-stream;q="], SSE),
        (["text/event-stream;q=nan, application/json;q=0.5"], SSE),
        (['text/html;a="x,text/event-stream;q=1", application/json'], JSON),
        (['text/event-stream;a="q=0;', "application/json;q=0.5"], SSE),
        (["event-stream, /, text/, */event-stream"], SSE),
    ],
)
async def test_a_client_is_given_what_it_wants_most(relay: Relay, accept: list[str], given: str | None) -> None:
    job = relay.registry.admit()
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    headers = [("Accept", value) for value in accept]
    async with serve(relay) as client:
        client.headers.pop("Accept", None)
        response = await client.get(f"/v1/jobs/{job.id}/events", headers=headers, skip_auto_headers=["Accept"])
        async with response:
            assert (response.status, response.content_type) == (
                (406, "application/problem+json") if given is None else (200, given)
            )


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=3))
def test_no_accept_header_however_odd_is_an_error(headers: list[str]) -> None:
    assert best_offer([SSE, JSON], parse_accept(headers)) in (SSE, JSON, None)


@given(st.text(',;"q=0./*\\ae', max_size=60))
def test_nor_one_that_looks_like_one(header: str) -> None:
    assert best_offer([SSE, JSON], parse_accept([header])) in (SSE, JSON, None)


LONG = ["a/b," * 2_000] * 100


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ([SSE, *LONG], SSE),
        ([f"{SSE};q=0, {JSON}", *LONG], JSON),
        (["a/b, " * 63 + SSE], SSE),
        (["a/b, " * 64 + SSE], None),  # as many as are read, and this is one more
        ([f"{JSON};{'a' * READ}, {SSE}"], SSE),  # nothing that can be read is anything
        ([f"{SSE};{'a' * READ};q=0"], SSE),
        (LONG, None),
        (['"' * 8_000] * 100, SSE),
    ],
)
def test_of_a_long_accept_header_no_more_is_read_than_costs_nothing(accept: list[str], best: str | None) -> None:
    ranges = parse_accept(accept)

    assert len(ranges) <= RANGES
    assert best_offer([SSE, JSON], ranges) == best


@pytest.mark.parametrize(
    "query",
    [
        "lastEventId={}-2",
        "last_event_id={}-2",
        "Last-Event-ID={}-2",
        "lasteventid={}-2",
        "lastEventId={}-1&job=&lastEventId={}-2",
        "lastEventId={}-3&last_event_id=nonsense&Last-Event-ID={}-2",
        "lastEventId={}-2&lastEventId=",
    ],
)
async def test_the_last_id_may_be_in_the_query_as_polyfills_write_it(relay: Relay, query: str) -> None:
    job = relay.registry.admit()
    for number in range(3):
        relay.bus.publish(job, Log(line=f"line {number}"))
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with serve(relay) as client:
        path = f"/v1/jobs/{job.id}/events?{query.replace('{}', relay.journal.epoch)}"
        assert await ids_of(await client.get(path)) == ["3", "4"]
        header = {"Last-Event-ID": f"{relay.journal.epoch}-3"}
        assert await ids_of(await client.get(path, headers=header)) == ["4"]


async def ids_of(response: ClientResponse) -> list[str]:
    return [line.split("-")[1] for line in (await response.text()).splitlines() if line.startswith("id: ")]


@pytest.mark.parametrize("name", ["lastEventId", "last_event_id", "Last-Event-ID"])
@pytest.mark.parametrize("value", ["%FF", "%00", "%0D%0A", "%ED%A0%80", "9" * 5_000, "-", "e-%D9%A1", "e--1"])
async def test_no_last_id_in_the_query_however_odd_is_an_error(relay: Relay, name: str, value: str) -> None:
    job = relay.registry.admit()
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with serve(relay) as client, client.get(f"/v1/jobs/{job.id}/events?{name}={value}") as response:
        assert response.status == 200
        assert b"event: gap\n" in await response.content.readuntil(b"\n\n")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("level=", 400),
        ("level=ERROR", 400),
        ("level=error%00", 400),
        ("level=%FF", 400),
        ("level=%ED%A0%80", 400),
        ("level=debug,info", 400),
        ("level[]=error", 200),
        ("level=error&level=debug", 200),
        ("job=", 404),
        ("job=%00", 400),
        ("job=%FF", 404),
        ("job=a%2Fb", 400),
        ("job=%0D%0Aevent:x", 400),
        ("job=%E2%80%AE", 400),
        ("job=" + "x" * 7_000, 404),
        ("job=job_x&job=job_x", 404),
        ("follow=", 400),
    ],
)
async def test_no_query_of_a_stream_however_odd_is_the_relays_failure(relay: Relay, query: str, status: int) -> None:
    async with serve(relay) as client, client.get(f"/v1/events?{query}") as response:
        assert response.status == status
        if status != 200:
            assert response.content_type == "application/problem+json"
            assert (await response.json())["detail"]
