"""Every scenario ends alike in every dialect that is asked for one task at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.events import Done, Failed, Progress, Retrying
from relay.testing import (
    ManualClock,
    ScriptedItems,
    ScriptedLuma,
    ScriptedNewApi,
    ScriptedOpenAIVideos,
    ScriptedRunway,
)
from relay.upstreams import Luma, NewApi, OpenAIVideos, PerTaskUpstream, Runway
from tests.upstreams.living import lived, retold

DIALECTS: dict[str, tuple[type[ScriptedItems], Any]] = {
    "openai-videos": (ScriptedOpenAIVideos, OpenAIVideos),
    "new-api": (ScriptedNewApi, NewApi),
    "runway": (ScriptedRunway, Runway),
    "luma": (ScriptedLuma, Luma),
}

INPUT = {"model": "m", "prompt": "a cat", "promptText": "a cat"}


@asynccontextmanager
async def speaking(dialect: str, clock: ManualClock, scenario: str) -> AsyncIterator[tuple[PerTaskUpstream, str]]:
    """The dialect's adapter at its scripted server, and a task that was submitted to it."""
    scripted, adapter = DIALECTS[dialect]
    async with scripted(scenario=scenario, clock=clock) as server, adapter(server.url, server.token) as upstream:
        yield upstream, await upstream.submit(INPUT)


@pytest.mark.parametrize(
    ("dialect", "texts"),
    [
        (
            "openai-videos",
            [
                "0% (queued)",
                "9% (in_progress)",
                "43% (in_progress)",
                "74% (in_progress)",
                "100% (in_progress)",
                "done, 1 file",
            ],
        ),
        (
            "new-api",
            [
                "0% (NOT_START)",
                "9% (IN_PROGRESS)",
                "43% (IN_PROGRESS)",
                "74% (IN_PROGRESS)",
                "100% (IN_PROGRESS)",
                "done, 1 file (video/mp4)",
            ],
        ),
        (
            "runway",
            [
                "THROTTLED",
                "9% (RUNNING)",
                "43% (RUNNING)",
                "74% (RUNNING)",
                "100% (RUNNING)",
                "done, 1 file (video/mp4)",
            ],
        ),
        ("luma", ["queued", "dreaming", "done, 1 file (video/mp4)"]),
    ],
)
async def test_a_task_that_goes_well_is_told_from_its_submit_to_its_result(dialect: str, texts: list[str]) -> None:
    clock = ManualClock()
    async with speaking(dialect, clock, "happy") as (upstream, task):
        assert retold(await lived(upstream, task, clock, every=10.0)) == texts


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("scenario", "kind"), [("violation", "policy"), ("error-item", "upstream")])
async def test_each_bad_end_is_a_failure_of_its_kind_with_its_reason(dialect: str, scenario: str, kind: str) -> None:
    clock = ManualClock()
    async with speaking(dialect, clock, scenario) as (upstream, task):
        end = (await lived(upstream, task, clock))[-1]
    assert isinstance(end, Failed)
    reasons = {"policy": "This content may violate our guardrails", "upstream": "Something went wrong while rendering."}
    assert (end.kind, end.message.startswith(reasons[kind]), end.retryable) == (kind, True, kind == "upstream")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_success_without_a_file_is_no_success(dialect: str) -> None:
    clock = ManualClock()
    async with speaking(dialect, clock, "missing-url") as (upstream, task):
        end = (await lived(upstream, task, clock))[-1]
    assert isinstance(end, Failed)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("unauthorised", "auth"),
        ("rate-limited", "rate-limit"),
        ("html", "auth"),
        ("not-a-list", "malformed"),
        ("gap", "not-found"),
    ],
)
async def test_trouble_on_the_way_is_a_failed_poll_of_its_kind_and_the_task_goes_on(
    dialect: str, scenario: str, kind: str
) -> None:
    clock = ManualClock()
    async with speaking(dialect, clock, scenario) as (upstream, task):
        story = await lived(upstream, task, clock)
    assert {event.kind for event in story if isinstance(event, Retrying)} == {kind}
    assert isinstance(story[-1], Done)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_figures_that_make_no_sense_and_words_that_are_not_known_end_nothing(dialect: str) -> None:
    clock = ManualClock()
    async with speaking(dialect, clock, "garbage") as (upstream, task):
        story = await lived(upstream, task, clock)
    words = {event.status for event in story if isinstance(event, Progress)}
    assert (words, isinstance(story[-1], Done)) == ({"running", "unknown"}, True)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_scripted_server_counts_what_it_is_asked(dialect: str) -> None:
    clock = ManualClock()
    scripted, adapter = DIALECTS[dialect]
    async with scripted(clock=clock) as server, adapter(server.url, server.token) as upstream:
        first, second = server.add_task(), server.add_task("violation")
        answer = await upstream.observe([first, second, "none"])
    assert (answer.listed, sorted(answer.tasks)) == (2, sorted([first, second, "none"]))
    assert [count for name, count in server.requests.items() if name.startswith("GET")] == [3]
