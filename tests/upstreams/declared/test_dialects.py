"""An API that has a dialect here tells the same story when it is declared in relay.toml instead."""

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.events import Event
from relay.testing import (
    ManualClock,
    ScriptedFal,
    ScriptedKling,
    ScriptedLuma,
    ScriptedMiniMax,
    ScriptedNewApi,
    ScriptedOpenAIVideos,
    ScriptedReplicate,
    ScriptedRunway,
    ScriptedUpstream,
    ScriptedVeo,
)
from relay.upstreams import (
    Fal,
    Kling,
    Luma,
    MiniMax,
    NewApi,
    OpenAIVideos,
    Replicate,
    Runway,
    Sora,
    Veo,
)
from tests.upstreams.declared.declarations import DECLARATIONS, declared
from tests.upstreams.living import lived

DIALECTS: dict[str, tuple[Any, Any]] = {
    "runway": (ScriptedRunway, Runway),
    "luma": (ScriptedLuma, Luma),
    "replicate": (ScriptedReplicate, Replicate),
    "openai-videos": (ScriptedOpenAIVideos, OpenAIVideos),
    "new-api": (ScriptedNewApi, NewApi),
    "sora": (ScriptedUpstream, Sora),
    "minimax": (ScriptedMiniMax, MiniMax),
    "fal": (ScriptedFal, Fal),
    "kling": (ScriptedKling, Kling),
    "veo": (ScriptedVeo, Veo),
}

SCENARIOS = [
    "happy", "flat", "gap", "violation", "error-item", "reappears", "unauthorised", "rate-limited",
    "html", "not-a-list", "garbage", "trace-b",
]  # fmt: skip

INPUT: dict[str, Any] = {"model": "scripted/video", "prompt": "a cat", "promptText": "a cat"}
INPUTS: dict[str, dict[str, Any]] = {
    "replicate": {"model": "scripted/video", "prompt": "a cat"},
    "sora": {"prompt": "a cat"},
    "veo": {"model": "veo-scripted", "prompt": "a cat"},
}
BUILT_IN_INPUTS: dict[str, dict[str, Any]] = {
    "replicate": {"model": "scripted/video", "input": {"prompt": "a cat"}},
    "sora": {"prompt": "a cat"},
    "veo": {"model": "veo-scripted", "prompt": "a cat"},
}

OWN: dict[str, dict[str, set[str]]] = {
    "sora": {"done": {"expires"}},
    "minimax": {"failed": {"message"}},
    "veo": {"progress": {"raw_status"}, "failed": {"message"}},
}
"""What a dialect reads out of an address, or puts into a sentence of its own; for an operation it has no word."""


def told(events: list[Event], origin: str, task: str, dialect: str) -> list[dict[str, Any]]:
    """*events* as they are sent, but for what no two servers have alike, and how a dialect puts it."""
    story: list[dict[str, Any]] = []
    for event in events:
        fields = re.sub(origin, "http://upstream", msgspec.json.encode(event).decode())
        fields = re.sub(re.escape(task.rpartition("/")[2]), "TASK", fields)
        fields = re.sub(r"(?<=Using seed: )\d+|(?<=/files/gen_)\w+|(?<=&sig=)[\w-]+", "X", fields)
        shown: dict[str, Any] = msgspec.json.decode(fields)
        # How a dialect says that an answer is not in it, or puts a reason.
        own = {"message"} if shown["type"] == "retrying" else OWN.get(dialect, {}).get(shown["type"], set())
        story.append({key: value for key, value in shown.items() if key not in own})
    return story


async def story_of(dialect: str, scenario: str, folder: Path | None) -> list[dict[str, Any]]:
    """What is told of a task that plays *scenario*; by the declared dialect where there is a *folder* for it."""
    scripted, adapter = DIALECTS[dialect]
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scripted(scenario=scenario, clock=clock))
        if folder is None:
            made, inputs = adapter(server.url, server.token, clock=clock), BUILT_IN_INPUTS
        else:
            made, inputs = declared(DECLARATIONS[dialect], server.url, server.token, folder, clock), INPUTS
        upstream = await stack.enter_async_context(made)
        task = await upstream.submit(inputs.get(dialect, INPUT))
        return told(await lived(upstream, task, clock), server.origin, task, dialect)


@pytest.mark.parametrize("dialect", DECLARATIONS)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_declared_dialect_tells_the_story_of_the_one_that_is_built_in(
    dialect: str, scenario: str, tmp_path: Path
) -> None:
    assert await story_of(dialect, scenario, tmp_path) == await story_of(dialect, scenario, None)


@pytest.mark.parametrize("dialect", sorted(DECLARATIONS.keys() - {"fal", "openai-videos", "replicate"}))
async def test_a_success_without_a_file_is_one_where_it_is_declared_and_none_where_files_are_all_there_is(
    dialect: str, tmp_path: Path
) -> None:
    declared_story, built_in = [await story_of(dialect, "missing-url", folder) for folder in (tmp_path, None)]
    warning, end = declared_story[-2:]
    assert (warning["type"], warning["severity"]) == ("log", "warning")
    assert warning["line"].startswith("the task has succeeded, and ")
    assert (end["type"], end["urls"], end["result"]) == ("done", [], None)
    assert (built_in[-1]["type"], built_in[-1]["kind"]) == ("failed", "malformed")
