"""Unchanged SDKs start a response in the background, leave its stream, and resume it where they left."""

import asyncio
from typing import Any

import pytest

from relay.testing import ManualClock
from sinks.sse import HEARTBEAT
from tests.interop.gateway.clients import result_of
from tests.interop.gateway.house import House, gateway
from tests.interop.gateway.program import Programs, marks_of
from tests.interop.gateway.proxy import BEFORE_THE_HEADERS

PROGRAMS = pytest.mark.parametrize(
    "program",
    [
        pytest.param("openai_sdk", marks=marks_of("openai_sdk"), id="openai-python"),
        pytest.param("openai_sdk.mjs", marks=marks_of("openai_sdk.mjs"), id="openai-node"),
    ],
)

STEP = "response.reasoning_summary_text.delta"
TEXT = "response.output_text.delta"


def read(events: list[list[Any]], wanted: str) -> str:
    """The deltas of one type of event, joined."""
    return "".join(delta for _, found, delta in events if found == wanted)


def output_text(final: dict[str, Any]) -> str:
    """The text of all messages of a response."""
    messages = [item for item in final["output"] if item["type"] == "message"]
    return "".join(part["text"] for message in messages for part in message["content"])


def assert_whole(house: House, events: list[list[Any]]) -> None:
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers))
    assert read(events, STEP) == "".join(house.lines())
    assert read(events, TEXT) == result_of(house)
    assert (events[0][1], events[-1][1]) == ("response.created", "response.completed")


@PROGRAMS
@pytest.mark.parametrize("by_helper", [False, True], ids=["retrieve", "stream"])
@pytest.mark.parametrize("leave_after", [1, 2, 9])
async def test_a_response_that_is_left_and_resumed_is_whole(
    program: str, by_helper: bool, leave_after: int, programs: Programs
) -> None:
    async with gateway(programs) as house:
        result = await house.perform(program, "response", "[happy] a cat", leave_after=leave_after, by_helper=by_helper)

    assert result["error"] is None
    assert len(result["before"]) == leave_after
    assert_whole(house, [*result["before"], *result["after"]])
    assert result["final"]["status"] == "completed"
    assert output_text(result["final"]) == result_of(house)
    assert (house.proxy.posts, house.submits) == (1, 1)


@PROGRAMS
async def test_the_helper_of_a_response_reads_every_step_and_the_result(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        result = await house.perform(program, "response_helper", "[happy] a cat")

    assert result["error"] is None
    assert_whole(house, result["events"])
    assert (result["final"]["status"], output_text(result["final"])) == ("completed", result_of(house))
    assert (house.proxy.posts, house.submits) == (1, 1)


FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    "violation": ("violation", {}),
    "vanishes": ("lost", {}),
    "never-finishes": ("timeout", {"deadline": 60.0}),
    "401": ("upstream_unauthorized", {"token": "wrong"}),
}


@PROGRAMS
@pytest.mark.parametrize("story", FAILURES)
async def test_a_failure_is_the_last_event_and_the_error_of_the_response(
    program: str, story: str, programs: Programs
) -> None:
    code, how = FAILURES[story]
    async with gateway(programs, **how) as house:
        prompt = "a cat" if story.isdigit() else f"[{story}] a cat"
        result = await house.perform(program, "response", prompt, leave_after=1)

    assert result["error"] is None
    events = [*result["before"], *result["after"]]
    assert read(events, STEP) == "".join(house.lines())
    assert events[-1][1] == "response.failed"
    assert (result["final"]["status"], result["final"]["error"]["code"]) == ("failed", code)
    assert (house.proxy.posts, house.submits) == (1, 1)


AI = pytest.mark.parametrize("program", [pytest.param("ai_sdk.mjs", marks=marks_of("ai_sdk.mjs"), id="ai-openai")])


@AI
async def test_a_provider_of_responses_reads_every_step_and_the_result(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        result = await house.perform(program, "chat", "[happy] a cat", provider="openai-responses")

    assert "".join(result["steps"]) == "".join(house.lines())
    assert (result["content"], result["finish"], result["error"]) == (result_of(house), "stop", None)
    assert (house.proxy.posts, house.submits) == (1, 1)


@AI
@pytest.mark.parametrize("story", FAILURES)
async def test_a_provider_of_responses_does_not_submit_again_after_a_failure(
    program: str, story: str, programs: Programs
) -> None:
    code, how = FAILURES[story]
    async with gateway(programs, **how) as house:
        prompt = "a cat" if story.isdigit() else f"[{story}] a cat"
        result = await house.perform(program, "chat", prompt, provider="openai-responses")

    assert result["error"] is not None
    assert result["finish"] != "stop"
    assert f"[{code}]" in str(result["error"]["message"]) or result["error"]["code"] == code
    assert (house.proxy.posts, house.submits) == (1, 1)


@PROGRAMS
async def test_a_relay_that_shuts_down_ends_a_stream_of_events_with_an_error(program: str, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock(), heartbeat=0.01) as house:
        reading = asyncio.ensure_future(house.play(house.perform(program, "response_helper", "[never-finishes] a cat")))
        await house.proxy.until(lambda: b"42%" in house.proxy.received)
        await house.shut_down()
        result = await reading

    assert "[relay_shutting_down]" in result["error"]["message"]
    assert (result["final"], house.proxy.posts, house.submits) == (None, 1, 1)


@PROGRAMS
async def test_a_creation_whose_answer_is_lost_is_repeated_and_joins_the_job(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        house.proxy.cuts.append(BEFORE_THE_HEADERS)
        result = await house.perform(program, "response_helper", "[happy] a cat")

    assert result["error"] is None
    assert_whole(house, result["events"])
    assert (house.proxy.posts, house.submits) == (2, 1)


@PROGRAMS
async def test_heartbeats_between_events_disturb_no_client(program: str, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock(), heartbeat=0.01) as house:
        result = await house.play(house.perform(program, "response_helper", "[happy] a cat"))

    assert result["error"] is None
    assert_whole(house, result["events"])
    assert house.proxy.received.count(HEARTBEAT) > 10


@PROGRAMS
async def test_a_response_in_the_background_can_be_cancelled(program: str, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock()) as house:
        result = await house.perform(program, "response_cancelled", "[never-finishes] a cat")

    assert result["statuses"] == ["queued", "cancelled", "cancelled"]
    assert house.submits == 1
