"""ComfyUI is read as it is really sent; its WebSocket makes polls quicker, and a story is the same without it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay import Record, Relay
from relay.errors import UpstreamError, UsageError
from relay.events import Cancelled, Done, Failed, Progress
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock, ScriptedComfyUI
from relay.upstreams import Cancels, ComfyUI, FetchesResults, Pushes, Submits, Upstream
from relay.upstreams.dialects.comfyui_nodes import NodeProgress
from tests.upstreams.living import lived, retold
from tests.upstreams.stub import Stub, reply

WORKFLOW: dict[str, Any] = {"1": {}, "2": {}, "3": {}, "4": {}}
NOTHING: dict[str, Any] = {"queue_running": [], "queue_pending": []}


def input(scenario: str = "happy") -> dict[str, Any]:
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": f"[{scenario}] a cat"}}
    return {"prompt": {"1": text, "2": {"class_type": "KSampler"}, "3": {"class_type": "SaveVideo"}}}


async def asked(*replies: object, task: str = "p") -> Observation | UpstreamError | None:
    """What is said of *task*, where polls are answered with *replies* in order. There is no WebSocket."""
    bodies = [reply(json.dumps(body)) for body in replies]
    async with Stub(*bodies) as stub:
        upstream = ComfyUI(stub.url, "canary-1", clock=ManualClock())
        async with upstream._http:
            return (await upstream.observe([task])).tasks.get(task)


async def ended(status: dict[str, Any] | None, outputs: object = None) -> Observation | UpstreamError | None:
    return await asked(NOTHING, {"p": {"prompt": [], "outputs": outputs or {}, "status": status}})


def test_it_submits_cancels_and_pushes_and_answers_for_all_tasks_at_once() -> None:
    upstream = ComfyUI("http://127.0.0.1:8188")
    assert all(isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, Pushes))
    assert not isinstance(upstream, FetchesResults)


async def test_a_task_in_the_queue_says_its_place_by_its_number_not_by_where_it_is_listed() -> None:
    queue = {"queue_running": [], "queue_pending": [[3, "a", {}], [9, "p", {}, {}, []], [5.0, "b", {}]]}
    assert await asked(queue) == Observation(status="queued", raw_status="pending", queue_position=2)


async def test_a_task_at_work_tells_no_percent_until_the_websocket_does() -> None:
    queue = {"queue_running": [[1, "p", WORKFLOW, {}, []]], "queue_pending": []}
    assert await asked(queue) == Observation(status="running", raw_status="running")


async def test_a_task_that_is_in_neither_list_is_not_told_of() -> None:
    assert await asked(NOTHING, {}) is None


async def test_the_result_is_what_was_saved_whatever_a_node_calls_its_list() -> None:
    outputs = {
        "3": {"images": [{"filename": "a b.png", "subfolder": "x/y", "type": "output"}], "animated": [True]},
        "4": {"gifs": [{"filename": "c.mp4", "subfolder": "", "type": "output"}, {"filename": 5}, None], "text": ["t"]},
        "5": {"images": [{"filename": "preview.png", "subfolder": "", "type": "temp"}]},
    }
    said = await ended({"status_str": "success", "completed": True, "messages": []}, outputs)
    assert isinstance(said, Observation)
    assert said.result is not None
    paths = [url.partition("/view?")[2] for url in said.result.urls]
    assert paths == ["filename=a+b.png&subfolder=x%2Fy&type=output", "filename=c.mp4&subfolder=&type=output"]
    assert said.result.media_types == ("image/png", "video/mp4")


async def test_a_success_without_files_is_a_result_without_files() -> None:
    said = await ended({"status_str": "success", "completed": True, "messages": []})
    assert said == Observation(status="succeeded", raw_status="success", result=Result(fileless=True))


async def test_what_nodes_show_is_the_value() -> None:
    success = {"status_str": "success", "completed": True, "messages": []}
    one = await ended(success, {"3": {"text": ["with canary-1"]}, "4": {"animated": [True]}})
    more = await ended(success, {"3": {"text": ["a", "b"]}, "4": {"images": [{"filename": "c.png"}]}})
    results = [said.result for said in (one, more) if isinstance(said, Observation)]
    assert [(result.value, result.fileless) for result in results if result is not None] == [
        ("with ***", True),
        (["a", "b"], False),
    ]


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        (
            [
                "execution_error",
                {"node_type": "KSampler", "exception_message": "no canary-1\n\n", "exception_type": "E"},
            ],
            Failure(kind="upstream", message="KSampler: no ***"),
        ),
        (
            ["execution_error", {"exception_message": "full", "exception_type": "torch.OutOfMemoryError"}],
            Failure(kind="upstream", message="full", retryable=True),
        ),
        (["execution_interrupted", {"node_id": "2"}], Failure(kind="cancelled", message="it was interrupted")),
        ("nonsense", Failure(kind="upstream", message="the upstream says 'error'")),
    ],
)
async def test_an_error_in_the_history_is_a_failure_with_its_reason(message: object, failure: Failure) -> None:
    said = await ended({"status_str": "error", "completed": False, "messages": [["execution_start", {}], message]})
    assert said == Observation(status="failed", raw_status="error", failure=failure)


@pytest.mark.parametrize("queue", [{"queue_running": []}, {"queue_running": 5, "queue_pending": []}, []])
async def test_a_queue_that_is_none_is_malformed(queue: object) -> None:
    with pytest.raises(UpstreamError) as error:
        await asked(queue)
    assert error.value.kind == "malformed"


@pytest.mark.parametrize("entry", [[], ["x", "p"], [1], [1, None]])
async def test_an_odd_entry_costs_the_others_nothing(entry: object) -> None:
    queue = {"queue_running": [entry, [1, "p"]], "queue_pending": [entry]}
    assert await asked(queue) == Observation(status="running", raw_status="running")


async def test_history_that_is_odd_is_that_tasks_trouble() -> None:
    said = await asked(NOTHING, {"p": {"outputs": 5}})
    assert isinstance(said, UpstreamError)
    assert said.kind == "malformed"


@pytest.mark.parametrize("wrong", [{}, {"prompt": "text"}, {"prompt": {}}])
async def test_an_input_without_a_workflow_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'prompt', a workflow"):
        await ComfyUI("http://127.0.0.1:1").submit(wrong)


# How far a workflow is


def test_each_node_counts_alike_and_the_one_at_work_by_its_steps() -> None:
    heard, told = NodeProgress(), list[int | None]()
    messages: list[tuple[str, dict[str, Any]]] = [
        ("execution_start", {}),
        ("execution_cached", {"nodes": ["1"]}),
        ("executing", {"node": "2"}),
        ("progress", {"node": "2", "value": 5, "max": 10}),
        ("progress", {"node": "2", "value": 3, "max": 10}),
        ("executing", {"node": "3"}),
        ("executed", {"node": "3"}),
        ("executing", {"node": "4"}),
        ("executing", {"node": None}),
    ]
    for kind, data in messages:
        heard.receive(kind, data)
        told.append(heard.percent(4))
    assert told == [0, 25, 25, 37, 37, 50, 75, 75, 100]


@pytest.mark.parametrize(
    "data",
    [{"value": 1, "max": 0}, {"value": "x", "max": 1}, {"value": float("nan"), "max": 1}, {"node": ["x"]}, {}],
)
def test_figures_that_make_no_sense_say_nothing(data: dict[str, Any]) -> None:
    heard = NodeProgress()
    heard.receive("progress", {"node": "1", **data})
    heard.receive("execution_cached", {"nodes": 5})
    heard.receive("progress_state", {"nodes": {"1": None, "2": 5}})
    assert (heard.percent(4), heard.percent(0)) == (0, None)


def test_a_state_of_all_nodes_at_once_is_understood_too() -> None:
    heard = NodeProgress()
    heard.receive("progress_state", {"nodes": {"1": {"state": "finished"}, "2": {"state": "running", "value": 1}}})
    assert heard.percent(2) == 50


# A real server, and its WebSocket


@asynccontextmanager
async def stage(clock: ManualClock, records: list[Record]) -> AsyncGenerator[tuple[ScriptedComfyUI, Relay]]:
    async with (
        ScriptedComfyUI(clock=clock) as server,
        Relay([ComfyUI(server.url, clock=clock, interval=10.0)], sinks=[records.append], clock=clock) as relay,
    ):
        await connected(server, clock)
        yield server, relay


async def connected(server: ScriptedComfyUI, clock: ManualClock) -> None:
    """Return when there is a WebSocket."""
    async with asyncio.timeout(30):
        while not server.sockets:
            await clock.advance(0)


def figures(records: list[Record]) -> list[int]:
    return [event.percent for event in (r.event for r in records) if isinstance(event, Progress) and event.percent]


async def test_a_task_that_goes_well_is_told_from_its_submit_to_its_result() -> None:
    clock = ManualClock()
    async with ScriptedComfyUI(clock=clock) as server, ComfyUI(server.url, clock=clock) as upstream:
        story = retold(await lived(upstream, await upstream.submit(input()), clock, every=5.0))
    assert (story[0], story[-1]) == ("pending, position 0 in the queue", "done, 1 file (video/mp4)")


async def test_the_websocket_tells_of_progress_and_of_the_end_long_before_the_interval_is_over() -> None:
    clock, records = ManualClock(), list[Record]()
    async with stage(clock, records) as (_, relay):
        job = relay.submit("comfyui", input())
        await clock.advance(42.0)
    shown = figures(records)
    assert isinstance(job.state.terminal, Done)
    assert (shown == sorted(shown), len(set(shown)) > 10, max(shown) < 100) == (True, True, True)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))


async def test_without_a_websocket_the_story_is_the_same_only_later() -> None:
    class Deaf(ScriptedComfyUI):
        def routes(self) -> Any:
            return {way: handler for way, handler in super().routes().items() if way != ("GET", "/ws")}

    clock, records = ManualClock(), list[Record]()
    async with (
        Deaf(clock=clock) as server,
        Relay([ComfyUI(server.url, clock=clock, interval=10.0)], sinks=[records.append], clock=clock) as relay,
    ):
        job = relay.submit("comfyui", input())
        await clock.advance(55.0)
    assert (isinstance(job.state.terminal, Done), figures(records)) == (True, [])


async def test_a_websocket_that_is_lost_is_had_again_and_no_figure_goes_back_meanwhile() -> None:
    clock, records = ManualClock(), list[Record]()
    async with stage(clock, records) as (server, relay):
        job = relay.submit("comfyui", input())
        await clock.advance(20.0)
        await server.hang_up()
        await clock.advance(3.0)
        await connected(server, clock)
        await clock.advance(20.0)
        connections = server.requests["GET /ws"]
    shown = figures(records)
    assert (shown == sorted(shown), connections, isinstance(job.state.terminal, Done)) == (True, 2, True)
    assert not any(event.regressed for event in (r.event for r in records) if isinstance(event, Progress))


async def test_a_websocket_that_cannot_be_had_is_tried_ever_more_seldom() -> None:
    clock = ManualClock()
    async with Stub(reply("{}", "404 Not Found")) as stub, ComfyUI(stub.url, clock=clock):
        await clock.advance(300.0)
    assert 6 <= len(stub.requests) <= 10


async def test_a_redirect_of_the_websocket_is_not_followed() -> None:
    clock = ManualClock()
    async with Stub(reply("{}")) as other:
        moved = reply("", "302 Found", location=f"{other.url}/ws")
        async with Stub(moved) as stub, ComfyUI(stub.url, "canary-1", clock=clock):
            await clock.advance(10.0)
    assert (len(stub.requests) > 1, other.requests) == (True, [])


@pytest.mark.parametrize(("scenario", "kind"), [("error-item", Failed), ("missing-url", Done)])
async def test_an_end_without_a_file_is_told_once(scenario: str, kind: type) -> None:
    clock, records = ManualClock(), list[Record]()
    async with stage(clock, records) as (_, relay):
        job = relay.submit("comfyui", input(scenario))
        await clock.advance(45.0)
    assert isinstance(job.state.terminal, kind)
    assert sum(record.terminal for record in records) == 1


@pytest.mark.parametrize(("after", "call"), [(2.0, "POST /queue"), (20.0, "POST /interrupt")])
async def test_a_task_is_called_off_by_taking_it_out_of_the_queue_or_by_interrupting_it(
    after: float, call: str
) -> None:
    clock, records = ManualClock(), list[Record]()
    async with stage(clock, records) as (server, relay):
        job = relay.submit("comfyui", input())
        other = relay.submit("comfyui", input("never-finishes"))
        await clock.advance(after)
        await relay.cancel(job.id)
        calls = [name for name in server.requests if name in ("POST /queue", "POST /interrupt")]
    assert (isinstance(job.state.terminal, Cancelled), other.ended, calls) == (True, False, [call])


async def test_what_has_ended_is_not_interrupted_since_another_may_be_running() -> None:
    clock = ManualClock()
    async with ScriptedComfyUI(clock=clock) as server, ComfyUI(server.url, clock=clock) as upstream:
        with pytest.raises(UpstreamError, match="not in the queue"):
            await upstream.cancel("another")
    assert server.requests["POST /interrupt"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"type": 5}',
        '{"type": "progress", "data": 5}',
        '{"type": "progress", "data": {"prompt_id": []}}',
    ],
)
def test_a_message_that_is_none_is_passed_over(text: str) -> None:
    upstream = ComfyUI("http://127.0.0.1:1", clock=ManualClock())
    upstream._receive(text)
    assert upstream._progress == {}


def test_no_more_than_a_thousand_tasks_are_remembered_and_the_latest_are() -> None:
    upstream = ComfyUI("http://127.0.0.1:1", clock=ManualClock())
    for number in range(1_100):
        upstream._receive(json.dumps({"type": "execution_start", "data": {"prompt_id": f"p{number}"}}))
    assert (len(upstream._progress), "p1099" in upstream._progress, "p0" in upstream._progress) == (1_000, True, False)


async def test_leaving_leaves_no_task_behind() -> None:
    clock, before = ManualClock(), asyncio.all_tasks()
    async with ScriptedComfyUI(clock=clock) as server:
        async with ComfyUI(server.url, clock=clock):
            await connected(server, clock)
        await clock.advance(0)
    assert (asyncio.all_tasks(), clock.sleepers) == (before, 0)
