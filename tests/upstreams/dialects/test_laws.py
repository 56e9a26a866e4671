"""Every dialect keeps the laws of an adapter."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay.clock import SystemClock
from relay.testing import UpstreamBodies, check_upstream
from relay.upstreams import ComfyUI, Fal, Kling, Luma, MiniMax, NewApi, OpenAIVideos, Replicate, Runway, Sora, Veo
from relay.upstreams.dialects.comfyui import QUEUE_LIMIT
from relay.upstreams.reading.long_lists import LIST_LIMIT
from tests.upstreams.declared.declarations import DECLARATIONS, declared

URL = "https://files.example/a.mp4"
MINIMAX_OK = {"status_code": 0, "status_msg": "success"}
OPERATION = "models/veo-3.0-generate-001/operations/abc"


def sora(*, pending: Any, draft: Any = None) -> Any:
    drafts = {"items": [draft] if draft else [], "cursor": None}
    return lambda target: drafts if "drafts" in target else pending


def minimax(status: str, **more: Any) -> Any:
    query = {"task_id": "task-1", "status": status, "base_resp": MINIMAX_OK, **more}
    file = {"file": {"file_id": 7, "download_url": URL}, "base_resp": MINIMAX_OK}
    return lambda target: file if "/files/" in target else query


def kling(status: str, **more: Any) -> Any:
    return {"code": 0, "message": "SUCCEED", "data": {"task_id": "task-1", "task_status": status, **more}}


def comfyui(past: dict[str, Any]) -> Any:
    empty: dict[str, Any] = {"queue_running": [], "queue_pending": []}
    return lambda target: empty if "queue" in target else {"task-1": past}


DIALECTS: dict[str, tuple[Any, UpstreamBodies]] = {
    "sora": (
        Sora,
        UpstreamBodies(
            running=sora(
                pending=[{"id": "task-1", "status": "running", "progress_pct": 0.4, "progress_pos_in_queue": None}]
            ),
            done=sora(pending=[], draft={"id": "gen_1", "task_id": "task-1", "kind": "sora_draft", "url": URL}),
            failed=sora(
                pending=[], draft={"id": "gen_1", "task_id": "task-1", "kind": "sora_error", "error_reason": "broken"}
            ),
            input={"prompt": "a cat"},
            created={"id": "task-1"},
            body_limit=LIST_LIMIT,
        ),
    ),
    "openai-videos": (
        OpenAIVideos,
        UpstreamBodies(
            running={"id": "task-1", "object": "video", "status": "in_progress", "progress": 40, "error": None},
            done={"id": "task-1", "object": "video", "status": "completed", "progress": 100},
            failed={"id": "task-1", "status": "failed", "error": {"code": "internal", "message": "broken"}},
            input={"model": "sora-2", "prompt": "a cat"},
            created={"id": "task-1", "status": "queued"},
        ),
    ),
    "new-api": (
        NewApi,
        UpstreamBodies(
            running={"code": "success", "message": "", "data": {"status": "IN_PROGRESS", "progress": "40%"}},
            done={"code": "success", "data": {"status": "SUCCESS", "progress": "100%", "result_url": URL}},
            failed={"code": "success", "data": {"status": "FAILURE", "progress": "100%", "fail_reason": "broken"}},
            input={"model": "m", "prompt": "a cat"},
            created={"task_id": "task-1"},
        ),
    ),
    "runway": (
        Runway,
        UpstreamBodies(
            running={"id": "task-1", "status": "RUNNING", "progress": 0.4, "createdAt": "2026-01-01T00:00:00Z"},
            done={"id": "task-1", "status": "SUCCEEDED", "output": [URL]},
            failed={"id": "task-1", "status": "FAILED", "failure": "broken", "failureCode": "INTERNAL"},
            input={"promptText": "a cat", "model": "gen4"},
            created={"id": "task-1"},
        ),
    ),
    "luma": (
        Luma,
        UpstreamBodies(
            running={"id": "task-1", "state": "dreaming", "failure_reason": None, "assets": None},
            done={"id": "task-1", "state": "completed", "assets": {"video": URL}},
            failed={"id": "task-1", "state": "failed", "failure_reason": "broken"},
            input={"prompt": "a cat", "model": "ray-2"},
            created={"id": "task-1"},
        ),
    ),
    "replicate": (
        Replicate,
        UpstreamBodies(
            running={"id": "task-1", "status": "processing", "output": None, "error": None, "logs": " 40%|####   |"},
            done={"id": "task-1", "status": "succeeded", "output": [URL], "error": None, "logs": "done"},
            failed={"id": "task-1", "status": "failed", "output": None, "error": "broken", "logs": ""},
            input={"version": "v1", "input": {"prompt": "a cat"}},
            created={"id": "task-1"},
        ),
    ),
    "fal": (
        Fal,
        UpstreamBodies(
            task="fal-ai/fast-sdxl/requests/abc",
            running={"status": "IN_PROGRESS", "queue_position": None, "logs": [{"message": "loading"}]},
            done=lambda target: {"status": "COMPLETED"} if "/status" in target else {"video": {"url": URL}},
            failed={"status": "COMPLETED", "error": "broken", "error_type": "internal_error"},
            input={"model": "fal-ai/fast-sdxl", "prompt": "a cat"},
            created={"response_url": "https://queue.fal.run/fal-ai/fast-sdxl/requests/abc"},
        ),
    ),
    "veo": (
        Veo,
        UpstreamBodies(
            task=OPERATION,
            running={"name": OPERATION, "done": False},
            done={
                "name": OPERATION,
                "done": True,
                "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": URL}}]}},
            },
            failed={"name": OPERATION, "done": True, "error": {"code": 13, "message": "broken"}},
            input={"model": "veo-3.0-generate-001", "prompt": "a cat"},
            created={"name": OPERATION},
        ),
    ),
    "kling": (
        Kling,
        UpstreamBodies(
            task="text2video/task-1",
            running=kling("processing", task_status_msg=""),
            done=kling("succeed", task_result={"videos": [{"id": "v", "url": URL}]}),
            failed=kling("failed", task_status_msg="broken"),
            input={"prompt": "a cat"},
            created=kling("submitted"),
        ),
    ),
    "minimax": (
        MiniMax,
        UpstreamBodies(
            running=minimax("Processing"),
            done=minimax("Success", file_id="7"),
            failed=minimax("Fail"),
            input={"model": "m", "prompt": "a cat"},
            created={"task_id": "task-1", "base_resp": MINIMAX_OK},
        ),
    ),
    "comfyui": (
        ComfyUI,
        UpstreamBodies(
            running={"queue_running": [[1, "task-1", {"1": {"class_type": "K"}}, {}, ["1"]]], "queue_pending": []},
            done=comfyui({"outputs": {"1": {"gifs": [{"filename": "a.mp4", "type": "output"}]}}}),
            failed=comfyui(
                {"status": {"status_str": "error", "messages": [["execution_error", {"exception_message": "broken"}]]}}
            ),
            input={"prompt": {"1": {"class_type": "K"}}},
            created={"prompt_id": "task-1", "number": 1, "node_errors": {}},
            body_limit=QUEUE_LIMIT,
        ),
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_keeps_the_laws_of_an_adapter(dialect: str) -> None:
    adapter, bodies = DIALECTS[dialect]
    check_upstream(adapter, bodies)


# What a declaration asks otherwise than the dialect does.
DECLARED: dict[str, UpstreamBodies] = {
    **{dialect: bodies for dialect, (_, bodies) in DIALECTS.items()},
    "replicate": replace(DIALECTS["replicate"][1], input={"model": "owner/name", "prompt": "a cat"}),
    "fal": replace(DIALECTS["fal"][1], task="abc", created={"request_id": "abc"}),
    "kling": replace(DIALECTS["kling"][1], task="task-1"),
}


@pytest.mark.parametrize("dialect", DECLARATIONS)
def test_what_is_declared_in_a_file_keeps_the_laws_of_an_adapter(dialect: str, tmp_path: Path) -> None:
    keys = DECLARATIONS[dialect]
    check_upstream(lambda url, token: declared(keys, url, token, tmp_path, SystemClock()), DECLARED[dialect])
