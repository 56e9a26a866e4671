"""The bodies that Sora's web backend sends, with all the fields that were seen of each."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import Struct

from relay.testing.scripted.scenarios import Moment, Scenario

__all__ = ["FakeTask", "created", "draft", "error", "new_id", "pending", "signed_url"]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, which the real ids are written in
_LASTS: Final = timedelta(days=1)
_SIZES: Final = {"small": (640, 352), "large": (1280, 704)}


class FakeTask(Struct, kw_only=True):
    """A task of the scripted upstream. *born* is on the clock's monotonic reading."""

    id: str
    generation: str
    scenario: Scenario
    born: float
    created_at: datetime
    input: Mapping[str, Any]

    def at(self, monotonic: float) -> Moment:
        """The task's moment at that reading of the clock."""
        return self.scenario.at(monotonic - self.born)


def new_id(prefix: str) -> str:
    """An id in the form of the real ones: `task_01...`, `gen_01...`."""
    return f"{prefix}_01" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def error(status: int, message: str, code: str, *, kind: str = "invalid_request_error") -> dict[str, Any]:
    """The body of an answer that is an error."""
    return {"error": {"message": message, "type": kind, "code": code, "param": None}, "status": status}


def created(task: FakeTask) -> dict[str, Any]:
    """The answer to `nf/create`."""
    return {
        "id": task.id,
        "task_type": "video_gen",
        "priority": 1,
        "rate_limit_and_credit_balance": {
            "rate_limit_reached": False,
            "access_resets_in_seconds": 0,
            "credit_remaining": 100,
            "estimated_num_videos_remaining": 30,
            "estimated_num_purchased_videos_remaining": 0,
        },
    }


def pending(task: FakeTask, moment: Moment) -> dict[str, Any]:
    """One item of `nf/pending/v2`."""
    height, width = _shape(task)
    return {
        "id": task.id,
        "type": "video_gen",
        "status": moment.status,
        "progress_pct": moment.progress,
        "progress_pos_in_queue": None,
        "estimated_queue_wait_time": None,
        "queue_status_message": None,
        "priority": 1,
        "operation": "simple_compose",
        "model": task.input.get("model", "sy_8"),
        "prompt": task.input.get("prompt", ""),
        "title": task.input.get("title"),
        "n_variants": 1,
        "n_frames": task.input.get("n_frames", 300),
        "height": height,
        "width": width,
        "seed": 1,
        "guidance": None,
        "actions": None,
        "inpaint_items": task.input.get("inpaint_items", []),
        "generations": [],
        "num_unsafe_generations": 0,
        "interpolation": None,
        "sdedit": None,
        "remix_config": None,
        "is_storyboard": False,
        "storyboard_id": None,
        "preset_id": None,
        "story_id": None,
        "project_id": None,
        "organization_id": None,
        "request_id": None,
        "tracking_id": None,
        "user": "user-scripted",
        "created_at": task.created_at.isoformat(),
        "moderation_result": {
            "type": "passed",
            "results_by_frame_index": {},
            "code": None,
            "is_output_rejection": False,
            "task_id": task.id,
        },
        "failure_reason": None,
        "needs_user_review": False,
    }


def draft(task: FakeTask, moment: Moment, url: str) -> dict[str, Any]:
    """One item of `project_y/profile/drafts/v2`; *url* is where its file is, if the moment has one."""
    height, width = _shape(task)
    link = url if moment.has_url else None
    violates = moment.kind == "sora_content_violation"
    return {
        "id": task.generation,
        "task_id": task.id,
        "kind": moment.kind,
        "url": link,
        "downloadable_url": link,
        "download_urls": {"watermark": link, "no_watermark": None},
        "reason": None,
        "reason_str": moment.reason if violates else None,
        "markdown_reason_str": moment.reason if violates else None,
        "error_reason": moment.reason if moment.kind == "sora_error" else None,
        "width": width,
        "height": height,
        "generation_type": "video_gen",
        "created_at": task.created_at.timestamp(),
        "prompt": task.input.get("prompt", ""),
        "title": task.input.get("title"),
        "encodings": {"source": {"path": link}} if link else {},
        "permalink": None,
        "post_id": None,
    }


def signed_url(origin: str, task: FakeTask) -> str:
    """Where the task's file is: in the form of Azure's signed URLs, whose `se` says until when it works."""
    expires = (task.created_at + _LASTS).strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = secrets.token_urlsafe(24)
    return f"{origin}/files/{task.generation}/raw.mp4?" + urlencode({"se": expires, "sp": "r", "sig": signature})


def _shape(task: FakeTask) -> tuple[int, int]:
    tall, narrow = _SIZES[task.input.get("size", "small")]
    return (tall, narrow) if task.input.get("orientation", "portrait") == "portrait" else (narrow, tall)
