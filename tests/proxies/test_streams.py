"""Streams through real proxies, configured as the documentation says."""

import json
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError

from relay.events import Done, Log
from tests.proxies.proxies import PROXIES, Change, Proxy
from tests.proxies.site import behind, job_of
from tests.web.streaming.client import read_blocks

EACH = [pytest.param(proxy, id=name, marks=getattr(pytest.mark, name)) for name, proxy in PROXIES.items()]


def as_it_is(block: str) -> str:
    return block


def with_gzip(block: str) -> str:
    """Compression of all that an operator might think of, streams included."""
    return f"gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream;\n{block}"


@pytest.mark.parametrize(
    ("proxy", "change", "encoding"),
    [
        *(pytest.param(*one.values, as_it_is, None, id=one.id, marks=one.marks) for one in EACH),
        pytest.param(PROXIES["nginx"], with_gzip, "gzip", id="nginx-gzip", marks=pytest.mark.nginx),
    ],
)
async def test_records_arrive_one_by_one(tmp_path: Path, proxy: Proxy, change: Change, encoding: str | None) -> None:
    """The next record is published only when the client has the one before it, and there is no heartbeat in between."""
    async with behind(proxy, tmp_path, change) as house:
        job = job_of(house.relay)
        heard: list[dict[str, str]] = []
        async with house.client.get(f"/v1/jobs/{job.id}/events") as response:
            async for block in read_blocks(response):
                heard.append(block)
                if len(heard) < 20:
                    house.relay.bus.publish(job, Log(line=f"line {len(heard) + 1}"))
                elif len(heard) == 20:
                    house.relay.bus.publish(job, Done(urls=("https://a/b",)))

        assert response.headers.get("Content-Encoding") == encoding
        assert [block["data"].encode() for block in heard] == [record.json for record in house.relay.journal.read(0)]


@pytest.mark.parametrize("proxy", EACH)
async def test_a_cursor_is_passed_on_and_so_is_204(tmp_path: Path, proxy: Proxy) -> None:
    async with behind(proxy, tmp_path) as house:
        job = job_of(house.relay, 3)
        house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        path, epoch = f"/v1/jobs/{job.id}/events", house.relay.journal.epoch
        async with house.client.get(path, headers={"Last-Event-ID": f"{epoch}-2"}) as response:
            rest = [json.loads(block["data"])["seq"] async for block in read_blocks(response)]
        async with house.client.get(path, headers={"Last-Event-ID": f"{epoch}-4"}) as response:
            end = response.status

    assert (rest, end) == ([3, 4], 204)


@pytest.mark.parametrize("proxy", EACH)
async def test_while_the_relay_is_gone_a_stream_gets_one_event_and_all_else_gets_the_truth(
    tmp_path: Path, proxy: Proxy
) -> None:
    async with behind(proxy, tmp_path) as house:
        job = job_of(house.relay)
        await house.site.stop()
        for path in ("/v1/events", f"/v1/jobs/{job.id}/events", f"/v1/events?job={job.id}"):
            async with house.client.get(path) as response:
                assert (response.status, response.content_type) == (200, "text/event-stream")
                assert response.headers["Cache-Control"] == "no-store"
                assert await response.text() == (
                    'retry: 50\nevent: bye\ndata: {"reason":"the relay is restarting"}\n\n'
                )
        async with house.client.get(f"/v1/jobs/{job.id}") as response:
            assert response.status in (502, 503)
        await house.site.start()
        async with house.client.get(f"/v1/jobs/{job.id}/events") as response:
            assert json.loads((await anext(read_blocks(response)))["data"])["seq"] == 1


@pytest.mark.parametrize("proxy", EACH)
async def test_an_error_of_the_relay_is_not_taken_for_a_deploy(tmp_path: Path, proxy: Proxy) -> None:
    async with behind(proxy, tmp_path) as house, house.client.get("/v1/events?level=loud") as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["detail"] == "level is one of debug, info, warning, error"


@pytest.mark.nginx
async def test_a_proxy_that_cuts_quiet_streams_costs_no_record(tmp_path: Path) -> None:
    """The relay's heartbeat is slower here than the proxy is patient."""
    heard: list[int] = []
    cuts = 0
    async with behind(PROXIES["nginx"], tmp_path, lambda block: f"proxy_read_timeout 200ms;\n{block}") as house:
        job = job_of(house.relay)
        last = ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            async with house.client.get(f"/v1/jobs/{job.id}/events", headers=headers) as response:
                if response.status == 204:
                    break
                try:
                    async for block in read_blocks(response):
                        last = block["id"]
                        heard.append(json.loads(block["data"])["seq"])
                except ClientPayloadError:
                    cuts += 1
                    end = Log(line="more") if cuts < 3 else Done(urls=("https://a/b",))
                    house.relay.bus.publish(job, end)

    assert (heard, cuts) == ([1, 2, 3, 4], 3)
