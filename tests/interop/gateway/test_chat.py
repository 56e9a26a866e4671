"""Unchanged clients read a chat stream: every line and the result, or an error, and never a success that was none."""

import asyncio
from itertools import groupby
from typing import Any

import pytest

from relay.config.settings import GatewaySettings
from relay.testing import ManualClock
from sinks.sse import HEARTBEAT
from tests.interop.gateway.clients import AI, CLIENTS, CONTENT, NODE, PYTHON, Chat, Client, params, result_of
from tests.interop.gateway.house import House, Refusing, gateway
from tests.interop.gateway.program import Programs, marks_of
from tests.interop.gateway.proxy import after_block, inside_block


@params(*CLIENTS)
async def test_every_line_of_the_job_and_its_result_are_read_in_order(client: Client, programs: Programs) -> None:
    async with gateway(programs, settings=client.settings) as house:
        chat = await client.chat(house, "[happy] 100% a cat")
        text = "".join(house.lines()) + result_of(house)

    assert (chat.text, chat.finish, chat.error) == (text, "stop", None)
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(PYTHON, NODE)
async def test_percentages_and_addresses_are_attributes_of_chunks(client: Client, programs: Programs) -> None:
    async with gateway(programs) as house:
        result = await house.perform(client.program, "chat", "[happy] a cat")
        records = house.relay.journal.read(0, limit=10_000, level="info")
        percents = [getattr(record.event, "percent", None) for record in records]

    assert result["progress"] == percents
    assert result["urls"] == list(house.job.state.terminal.urls)  # type: ignore[union-attr]


@params(PYTHON, NODE)
async def test_heartbeats_between_chunks_disturb_no_client(client: Client, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock(), heartbeat=0.01) as house:
        chat = await house.play(client.chat(house, "[happy] a cat"))
        text = "".join(house.lines()) + result_of(house)

    assert (chat.text, chat.finish, chat.error) == (text, "stop", None)
    assert house.proxy.received.count(HEARTBEAT) > 10


@params(PYTHON, NODE)
async def test_a_stream_cut_after_each_chunk_and_resumed_with_its_key_is_whole(
    client: Client, programs: Programs
) -> None:
    key = {"extra_headers" if client is PYTHON else "headers": {"Idempotency-Key": "one job"}}
    async with gateway(programs, clock=ManualClock(), heartbeat=0.01) as house:
        chats: list[Chat] = []
        while not chats or chats[-1].error is not None:
            house.proxy.cuts.append(after_block(len(chats) + 1))
            chats.append(await house.play(client.chat(house, "[happy] a cat", **key)))
        house.proxy.cuts.append(inside_block(7))
        broken = await client.chat(house, "[happy] a cat", **key)
        text = "".join(house.lines()) + result_of(house)
        lines = len(house.lines())

    assert (chats[-1].text, chats[-1].finish) == (text, "stop")
    assert [chat.text for chat in chats] == sorted((chat.text for chat in chats), key=len)
    assert all(text.startswith(chat.text) for chat in [*chats, broken])
    assert broken.error is not None
    assert len(chats) > lines
    assert (house.proxy.posts, house.submits) == (len(chats) + 1, 1)


@params(*CLIENTS)
async def test_a_connection_that_is_lost_within_a_stream_is_an_error_and_no_second_job(
    client: Client, programs: Programs
) -> None:
    async with gateway(programs, clock=ManualClock(), heartbeat=0.01) as house:
        house.proxy.cuts.append(inside_block(9))
        chat = await house.play(client.chat(house, "[happy] a cat"))

    assert house.submits == 1
    if client.id == "ai-openai" and chat.error is None:
        # It has read no text yet. If it takes the loss for one of the network, it repeats the request, and joins.
        assert (chat.text, chat.finish, house.proxy.posts) == (result_of(house), "stop", 2)
    else:
        assert chat.error is not None
        assert (chat.finish in (None, "error"), house.proxy.posts) == (True, 1)


@pytest.mark.parametrize("program", [pytest.param("openai_sdk", marks=marks_of("openai_sdk"))])
async def test_the_models_of_the_relay_are_listed(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        assert await programs.perform(program, {"do": "models", "base_url": house.url}) == {"models": ["sora"]}


@params(PYTHON, NODE)
async def test_a_client_without_headers_resumes_by_its_user_and_its_name_for_the_job(
    client: Client, programs: Programs
) -> None:
    name = {"user": "ann", "metadata": {"job": "cat 7"}}
    async with gateway(programs) as house:
        house.proxy.cuts.append(inside_block(9))
        broken = await client.chat(house, "[happy] a cat", **name)
        chat = await client.chat(house, "[happy] a cat", **name)
        text = "".join(house.lines()) + result_of(house)

    assert broken.error is not None
    assert text.startswith(broken.text)
    assert (chat.text, chat.finish, chat.error) == (text, "stop", None)
    assert (house.proxy.posts, house.submits) == (2, 1)


@pytest.mark.parametrize("program", [pytest.param("openai_sdk", marks=marks_of("openai_sdk"))])
async def test_a_helper_that_adds_up_deltas_repeats_no_text(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        result = await house.perform(program, "helper", "[happy] a cat")
        done = house.job.state

    final = result["final"]
    assert final["content"] == result_of(house)
    assert final["reasoning_content"] == final["reasoning"] == "".join(house.lines())
    assert final["output"] == [
        {"index": 0, "task_id": done.task, "url": done.terminal.urls[0], "type": "video"}  # type: ignore[union-attr]
    ]
    assert (final["job"], final["finish"]) == (house.job.id, "stop")


FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    "violation": ("violation", {}),
    "error-item": ("upstream_error", {}),
    "vanishes": ("lost", {}),
    "never-finishes": ("timeout", {"deadline": 60.0}),
    "401": ("upstream_unauthorized", {"token": "wrong"}),
    "429": ("upstream_throttled", {}),
}
"""For each story the code of its error, and what else makes it happen."""


async def fail(client: Client, story: str, programs: Programs, settings: GatewaySettings) -> tuple[House, Chat]:
    """The house after a job that ended as *story* says, and what *client* delivered."""
    _, how = FAILURES[story]
    clock = ManualClock(auto=True)
    upstream = Refusing(429, clock=clock) if story == "429" else None
    async with gateway(programs, settings=settings, clock=clock, upstream=upstream, **how) as house:
        chat = await client.chat(house, "a cat" if story.isdigit() else f"[{story}] a cat")
        return house, chat


@params(*CLIENTS)
async def test_a_violation_is_an_error_with_its_code_and_never_a_success(client: Client, programs: Programs) -> None:
    house, chat = await fail(client, "violation", programs, client.settings)

    assert chat.error is not None
    assert f"[violation] (job {house.job.id})" in chat.error["message"]
    assert chat.error.get("code") in ("violation", None)
    assert chat.finish in (None, "error")
    assert chat.text == "".join(house.lines()) or client.program == "llm_command"
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(PYTHON, NODE, AI, *(client for client in CLIENTS if client.id == "langchain-python-async"))
@pytest.mark.parametrize("story", FAILURES)
async def test_each_kind_of_failure_has_a_code_of_its_own(client: Client, story: str, programs: Programs) -> None:
    house, chat = await fail(client, story, programs, client.settings)

    assert chat.error is not None
    assert f"[{FAILURES[story][0]}] (job {house.job.id})" in chat.error["message"]
    assert chat.finish in (None, "error")
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(*(client for client in CLIENTS if client.id == "ai-openai"))
@pytest.mark.parametrize("story", FAILURES)
async def test_a_client_that_has_read_nothing_before_the_failure_does_not_submit_again(
    client: Client, story: str, programs: Programs
) -> None:
    """@ai-sdk/openai repeats a request whose stream began with an error that it takes for one of the server."""
    house, chat = await fail(client, story, programs, GatewaySettings())

    assert chat.error is not None
    assert (house.proxy.posts, house.submits) == (1, 1)


@params(*CLIENTS)
async def test_a_relay_that_shuts_down_ends_a_stream_with_an_error(client: Client, programs: Programs) -> None:
    async with gateway(programs, settings=client.settings, clock=ManualClock(), heartbeat=0.01) as house:
        reading = asyncio.ensure_future(house.play(client.chat(house, "[never-finishes] a cat")))
        await house.proxy.until(lambda: b"42%" in house.proxy.received)
        job = house.job
        await house.shut_down()
        chat = await reading

    assert chat.error is not None
    assert f"[relay_shutting_down] (job {job.id})" in chat.error["message"]
    assert chat.finish in (None, "error")
    assert (house.proxy.posts, house.submits) == (1, 1)


SIGNS = 60
"""More than fit into the patience of the client: two of them are 0.1 s apart at least."""


@pytest.mark.parametrize("program", [pytest.param("langchain_sdk", marks=marks_of("langchain_sdk"))])
async def test_signs_of_life_keep_an_asynchronous_client_that_counts_no_heartbeat(
    program: str, programs: Programs
) -> None:
    """LangChain gives up after 120 s without a chunk, here 5 s; 130 s without news pass on the clock."""
    async with gateway(programs, clock=ManualClock(), settings=CONTENT, heartbeat=0.02, sign_of_life=0.1) as house:
        reading = asyncio.ensure_future(house.perform(program, "chat_async", "[flat] a cat", stream_chunk_timeout=5.0))
        await house.proxy.until(lambda: HEARTBEAT in house.proxy.received)
        await house.clock.advance(20.0)
        before = house.proxy.received.count(b"data: ")
        await house.proxy.until(lambda: house.proxy.received.count(b"data: ") >= before + SIGNS)
        await house.clock.advance(130.0)
        result = await house.play(reading)
        text = "".join(house.lines()) + result_of(house)
        polls = set(house.lines("debug")) - set(house.lines())

    # A sign of life shows the text of the latest poll: that of a debug record, or the same as before.
    shown = [line for line in "".join(result["texts"]).splitlines(keepends=True) if line not in polls]
    steps = [line for line, _ in groupby(shown)]
    assert ("".join(steps), result["finish"], result["error"]) == (text, "stop", None)


@pytest.mark.parametrize("program", [pytest.param("langchain_sdk", marks=marks_of("langchain_sdk"))])
async def test_without_signs_of_life_that_client_gives_up(program: str, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock(), heartbeat=0.05, sign_of_life=3_600) as house:
        result = await house.perform(program, "chat_async", "[flat] a cat", stream_chunk_timeout=0.5)

    assert result["error"]["class"] == "StreamChunkTimeoutError"
