"""However often a client repeats its request, the upstream receives one, and the client receives the job's end."""

import asyncio

import pytest

from relay.config.settings import GatewaySettings
from relay.testing import ManualClock
from tests.interop.gateway.clients import AI, CLIENTS, NODE, PYTHON, WAITING, Client, params
from tests.interop.gateway.house import Refusing, gateway
from tests.interop.gateway.program import Programs
from tests.interop.gateway.proxy import BEFORE_THE_HEADERS

STREAMING = (
    PYTHON,
    NODE,
    AI,
    *(client for client in CLIENTS if client.id in ("ai-openai", "langchain-python", "langchain-js", "litellm")),
)


@params(*STREAMING)
@pytest.mark.parametrize("status", [500, 503])
async def test_a_submit_that_the_upstream_refuses_is_made_once(client: Client, status: int, programs: Programs) -> None:
    clock = ManualClock(auto=True)
    async with gateway(programs, clock=clock, upstream=Refusing(status, clock=clock)) as house:
        chat = await client.chat(house, "a cat")

    assert chat.error is not None
    assert f"[upstream_error] (job {house.job.id})" in chat.error["message"]
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(*STREAMING)
async def test_a_connection_that_is_lost_before_its_headers_is_repeated_and_joins_the_job(
    client: Client, programs: Programs
) -> None:
    async with gateway(programs, settings=client.settings, clock=ManualClock(), heartbeat=0.01) as house:
        house.proxy.cuts.append(BEFORE_THE_HEADERS)
        reading = asyncio.ensure_future(client.chat(house, "[happy] a cat"))
        await house.proxy.until(lambda: house.proxy.posts == 2)
        chat = await house.play(reading)

    assert (chat.finish, chat.error) == ("stop", None)
    assert chat.text.startswith("".join(house.lines()))
    assert (house.proxy.posts, house.submits) == (2, 1)


@params(*WAITING)
async def test_a_connection_that_is_lost_during_the_wait_is_repeated_and_joins_the_job(
    client: Client, programs: Programs
) -> None:
    async with gateway(programs, clock=ManualClock()) as house:
        reading = asyncio.ensure_future(client.chat(house, "[happy] a cat"))
        await house.proxy.until(lambda: house.proxy.posts == 1)
        while house.submits == 0:
            await house.clock.advance(0.0)
        house.proxy.drop()
        await house.proxy.until(lambda: house.proxy.posts == 2)
        chat = await house.play(reading, until=turn)

    assert (chat.finish, chat.error) == ("stop", None)
    assert (house.proxy.posts, house.submits) == (2, 1)


@params(*WAITING)
async def test_a_wait_that_expires_is_an_error_that_no_client_repeats(client: Client, programs: Programs) -> None:
    async with gateway(programs, settings=GatewaySettings(wait=240.0)) as house:
        chat = await client.chat(house, "[never-finishes] a cat")

    assert chat.error is not None
    assert f"[still_running] (job {house.job.id})" in chat.error["message"]
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(*WAITING)
async def test_a_job_that_fails_within_the_wait_is_an_error_that_no_client_repeats(
    client: Client, programs: Programs
) -> None:
    async with gateway(programs) as house:
        chat = await client.chat(house, "[violation] a cat")

    assert chat.error is not None
    assert f"[violation] (job {house.job.id})" in chat.error["message"]
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(*WAITING)
async def test_a_completion_that_is_waited_for_has_the_result(client: Client, programs: Programs) -> None:
    async with gateway(programs) as house:
        chat = await client.chat(house, "[happy] a cat")

    (url,) = house.job.state.terminal.urls  # type: ignore[union-attr]
    assert (chat.text, chat.finish, chat.error) == (f"<video src='{url}' controls></video>", "stop", None)
    assert (house.proxy.posts, house.submits) == (1, 1)


async def turn() -> None:
    """One turn of the event loop."""
    await asyncio.sleep(0)
