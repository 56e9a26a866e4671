"""One submission, however often a client repeats its request; and a job that no connection ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, TCPConnector

from relay import SqliteJournal
from relay.config.settings import GatewaySettings
from tests.web.gateway.serving import House, chat, documents, gateway, submissions

pytestmark = pytest.mark.usefixtures("take_over")

WEB = "/v1/chat/completions"
LONG = "[never-finishes] a cat"
REPEATED = {"x-stainless-retry-count": "1"}


@asynccontextmanager
async def streaming(house: House, prompt: str = LONG, **headers: str) -> AsyncGenerator[ClientResponse]:
    """A chat of which the first block has arrived."""
    async with house.client.post(WEB, json=chat(prompt, stream=True), headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        yield response


def job_of(response: ClientResponse) -> str:
    return response.headers["X-Relay-Job"]


async def left(house: House, response: ClientResponse) -> None:
    """Close the connection, and return once the relay has noticed: it has served requests that were sent later."""
    response.close()
    for _ in range(3):
        async with house.client.get("/healthz") as later:
            await later.read()


async def test_the_same_key_is_the_same_job_and_another_body_is_refused_with_a_status_that_nobody_repeats() -> None:
    async with gateway(auto=False) as house:
        key = {"Idempotency-Key": "café"}
        async with streaming(house, **key) as first, streaming(house, **key) as second:
            assert job_of(first) == job_of(second)
            async with house.client.post(WEB, json=chat("a dog", stream=True), headers=key) as other:
                assert (other.status, (await other.json())["error"]["code"]) == (400, "idempotency_conflict")
        assert len(house.relay.jobs()) == 1


async def test_user_and_metadata_name_a_job_as_a_key_does() -> None:
    named: dict[str, Any] = {"user": "ann", "metadata": {"job": "7"}}
    async with gateway() as house:
        async with house.client.post(WEB, json=chat(**named)) as first:
            await first.read()
        async with house.client.post(WEB, json=chat(**named)) as second:
            await second.read()
        assert job_of(first) == job_of(second)
        assert submissions(house) == 1


async def test_two_requests_that_are_both_open_are_two_jobs() -> None:
    async with gateway(auto=False) as house, streaming(house) as first, streaming(house) as second:
        assert job_of(first) != job_of(second)


async def test_a_request_whose_answer_was_cut_off_at_once_is_joined_when_it_is_repeated() -> None:
    async with gateway(auto=False) as house:
        async with streaming(house) as first:
            await left(house, first)
        async with streaming(house) as second:
            assert job_of(second) == job_of(first)
            await left(house, second)
        async with streaming(house, **REPEATED) as third:
            assert job_of(third) == job_of(first)


async def test_the_request_of_another_client_joins_nothing() -> None:
    elsewhere = TCPConnector(local_addr=("127.0.0.2", 0))
    async with gateway(auto=False) as house, ClientSession(connector=elsewhere) as other:
        async with streaming(house) as first:
            await left(house, first)
        url = house.client._build_url(WEB)
        async with other.post(url, json=chat(LONG, stream=True), headers=REPEATED) as second:
            assert job_of(second) != job_of(first)


async def test_an_answer_that_was_read_for_a_while_counts_as_received() -> None:
    async with gateway(auto=False) as house:
        # With every poll in it, the relay writes, and so notices that the client has left, without a heartbeat.
        async with streaming(house, **{"X-Relay-Level": "debug"}) as first:
            await house.clock.advance(5)
            await left(house, first)
        await house.clock.advance(30)
        async with streaming(house) as second:
            assert job_of(second) != job_of(first)


async def test_the_same_request_joins_a_stream_that_broke_off_a_moment_ago_however_long_it_was() -> None:
    async with gateway(auto=False) as house:
        async with streaming(house) as first:
            await house.clock.advance(300)
            await left(house, first)
        await house.clock.advance(4)
        async with streaming(house) as second:
            assert job_of(second) == job_of(first)


async def test_a_client_that_says_it_repeats_itself_joins_also_an_answer_that_counts_as_received() -> None:
    async with gateway(auto=False) as house:
        async with streaming(house) as first:
            await house.clock.advance(60)
            await left(house, first)
        async with streaming(house, **REPEATED) as second:
            assert job_of(second) == job_of(first)


async def test_after_ten_minutes_the_same_request_is_a_new_one() -> None:
    async with gateway(auto=False) as house:
        async with streaming(house) as first:
            await left(house, first)
        await house.clock.advance(601)
        async with streaming(house, **REPEATED) as second:
            assert job_of(second) != job_of(first)


async def test_an_answer_that_was_received_whole_is_not_given_again() -> None:
    async with gateway() as house:
        jobs = set()
        for stream in (True, True, False, False):
            async with house.client.post(WEB, json=chat("[violation] a cat", stream=stream)) as response:
                await response.read()
                jobs.add(job_of(response))
        assert len(jobs) == 4


@pytest.mark.parametrize("received", [False, True])
async def test_a_restart_forgets_neither_the_request_nor_whether_its_answer_was_received(
    tmp_path: Path, received: bool
) -> None:
    jobs: list[str] = []
    for _ in range(2):
        with closing(SqliteJournal(tmp_path / "relay.db")) as journal:
            async with gateway(auto=False, journal=journal) as house:
                async with streaming(house) as response:
                    jobs.append(job_of(response))
                    await house.clock.advance(5 if received else 1)
                    await left(house, response)
                await house.clock.advance(10)  # the next record is committed, and with it the mark
    assert (jobs[0] != jobs[1]) is received


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_client_that_leaves_ends_its_job_only_if_the_operator_has_chosen_that(cancels: bool) -> None:
    key = {"Idempotency-Key": "k"}
    async with (
        gateway(auto=False, heartbeat=0.05, gateway=GatewaySettings(cancel_on_disconnect=cancels)) as house,
        streaming(house) as first,
        streaming(house, **key) as keyed,
        streaming(house, **key) as again,
    ):
        job, other = house.relay.job(job_of(first)), house.relay.job(job_of(keyed))
        assert job_of(again) == other.id
        keyed.close()
        await left(house, first)
        while cancels and not job.ended:  # noqa: ASYNC110 - a client of this same loop leaves
            await asyncio.sleep(0)
        assert job.ended is cancels
        assert not other.ended, "another client still reads it"


async def test_a_shutdown_cancels_no_job_of_a_client_that_it_disconnects() -> None:
    settings = GatewaySettings(cancel_on_disconnect=True)
    async with gateway(auto=False, gateway=settings) as house, streaming(house) as response:
        job = house.relay.job(job_of(response))
    assert not job.ended


async def test_a_relay_that_is_full_refuses_before_it_submits() -> None:
    async with gateway(auto=False, max_streams=1) as house, streaming(house):
        async with house.client.post(WEB, json=chat("a dog", stream=True)) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert (await refused.json())["error"]["code"] == "busy"
        assert len(house.relay.jobs()) == 1


async def test_many_chats_of_one_account_are_polled_with_one_request() -> None:
    async with gateway() as house:
        answers = [house.client.post(WEB, json=chat("[happy] a cat", stream=True, user=str(n))) for n in range(100)]
        responses = await asyncio.gather(*(asyncio.ensure_future(answer) for answer in answers))
        ends = [documents(await response.read())[-2]["choices"][0]["finish_reason"] for response in responses]
        assert ends == ["stop"] * 100
        assert submissions(house) == 100
        polls = house.upstream.requests["nf/pending/v2"]
        assert polls <= house.clock.monotonic() / 2.5 + 1
