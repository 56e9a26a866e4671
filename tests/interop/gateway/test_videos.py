"""Unchanged SDKs create a video, poll it to its end and download it."""

import re
from typing import Any

import pytest

from relay.config.settings import GatewayModel, GatewaySettings
from relay.testing import ManualClock
from relay.testing.scripted.openai_videos import ScriptedOpenAIVideos
from relay.testing.scripted.server import FILE
from relay.upstreams import OpenAIVideos
from tests.interop.gateway.house import House, Refusing, gateway
from tests.interop.gateway.program import Programs, marks_of
from tests.interop.gateway.proxy import BEFORE_THE_HEADERS

PYTHON = pytest.param("openai_sdk", marks=marks_of("openai_sdk"), id="openai-python")
NODE = pytest.param("openai_sdk.mjs", marks=marks_of("openai_sdk.mjs"), id="openai-node")

ENDS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "happy": ("completed", None, {}),
    "gap": ("completed", None, {}),
    "reappears": ("completed", None, {}),
    "unauthorised": ("completed", None, {}),
    "rate-limited": ("completed", None, {}),
    "garbage": ("completed", None, {}),
    "violation": ("failed", "violation", {}),
    "error-item": ("failed", "upstream_error", {}),
    "vanishes": ("failed", "lost", {}),
    "never-finishes": ("failed", "timeout", {"deadline": 60.0}),
    "401": ("failed", "upstream_unauthorized", {"token": "wrong"}),
    "503": ("failed", "upstream_error", {}),
}
"""For each story the status and the code that it ends with, and what else makes it happen."""


def statuses(house: House) -> list[str]:
    """The status in each answer that passed, in their order."""
    return [word.decode() for word in re.findall(rb'"status": ?"([^"]*)"', house.proxy.received)]


@pytest.mark.parametrize("program", [PYTHON])
@pytest.mark.parametrize("story", ENDS)
async def test_create_and_poll_returns_at_the_end_of_the_job_and_in_no_state_before(
    program: str, story: str, programs: Programs
) -> None:
    status, code, how = ENDS[story]
    clock = ManualClock()
    upstream = Refusing(503, clock=clock) if story == "503" else None
    async with gateway(programs, clock=clock, upstream=upstream, **how) as house:
        prompt = "a cat" if story.isdigit() else f"[{story}] a cat"
        result = await house.play(
            house.perform(program, "video", prompt, poll_interval_ms=1),
            until=house.proxy.request,
        )
        polled, job = statuses(house), house.job

    assert result["error"] is None
    video = result["video"]
    assert (video["id"], video["object"], video["status"]) == (job.id, "video", status)
    assert (video["error"] or {}).get("code") == code
    assert set(polled) <= {"queued", "in_progress", status}
    assert polled.index(status) == len(polled) - 1
    assert (house.proxy.posts, house.submits) == (1, 1)


@pytest.mark.parametrize("program", [PYTHON, NODE])
@pytest.mark.parametrize("content", ["proxy", "redirect"])
async def test_the_content_of_a_completed_video_is_downloaded(program: str, content: Any, programs: Programs) -> None:
    async with gateway(programs, settings=GatewaySettings(content=content, allow_private=True)) as house:
        result = await house.perform(program, "video", "[happy] a cat", download=True)

    assert result["error"] is None
    assert (result["video"]["id"], result["video"]["status"]) == (house.job.id, "completed")
    assert bytes.fromhex(result["content"]) == FILE
    assert (house.proxy.posts, house.submits) == (1, 1)


@pytest.mark.parametrize("program", [NODE])
@pytest.mark.parametrize("story", ["happy", "violation"])
async def test_a_video_that_is_created_and_retrieved_by_hand_ends_as_well(
    program: str, story: str, programs: Programs
) -> None:
    status, code, _ = ENDS[story]
    async with gateway(programs) as house:
        result = await house.perform(program, "video", f"[{story}] a cat")

    video = result["video"]
    assert (video["id"], video["status"], (video["error"] or {}).get("code")) == (house.job.id, status, code)
    assert (house.proxy.posts, house.submits) == (1, 1)


@pytest.mark.parametrize("program", [PYTHON])
async def test_what_a_client_names_beside_its_prompt_reaches_the_upstream(program: str, programs: Programs) -> None:
    clock = ManualClock(auto=True)
    upstream = ScriptedOpenAIVideos(clock=clock)
    settings = GatewaySettings(models={"sora": GatewayModel(upstream="openai-videos")})
    async with gateway(programs, clock=clock, upstream=upstream, adapter=OpenAIVideos, settings=settings) as house:
        result = await house.perform(program, "video", "[violation] a cat", seconds="8", size="720x1280")
        (task,) = upstream.tasks.values()

    video = result["video"]
    assert (video["seconds"], video["size"], video["model"], video["status"]) == ("8", "720x1280", "sora", "failed")
    assert {name: task.input[name] for name in ("seconds", "size")} == {"seconds": "8", "size": "720x1280"}
    assert (house.proxy.posts, house.submits) == (1, 1)


@pytest.mark.parametrize("program", [PYTHON])
async def test_without_an_interval_of_its_own_the_client_polls_in_the_rhythm_of_the_job(
    program: str, programs: Programs
) -> None:
    """The SDK sleeps for the milliseconds of the first answer, else for a second."""
    async with gateway(programs) as house:
        result = await house.perform(program, "video", "[violation] a cat")

    assert result["video"]["status"] == "failed"
    assert b"openai-poll-after-ms" in house.proxy.received


@pytest.mark.parametrize("program", [PYTHON, NODE])
async def test_a_creation_whose_answer_is_lost_is_repeated_and_joins_the_job(program: str, programs: Programs) -> None:
    async with gateway(programs) as house:
        house.proxy.cuts.append(BEFORE_THE_HEADERS)
        result = await house.perform(program, "video", "[violation] a cat")

    assert (result["video"]["id"], result["video"]["status"]) == (house.job.id, "failed")
    assert (house.proxy.posts, house.submits) == (2, 1)


@pytest.mark.parametrize("program", [PYTHON, NODE])
async def test_a_video_is_listed_and_can_be_deleted_while_it_is_made(program: str, programs: Programs) -> None:
    async with gateway(programs, clock=ManualClock()) as house:
        result = await house.perform(program, "deleted", "[never-finishes] a cat")

    assert (result["listed"], result["deleted"]) == ([result["id"]], True)
    assert (result["after"]["status"], result["after"]["error"]["code"]) == ("failed", "cancelled")
    assert (house.proxy.posts, house.submits) == (1, 1)
