"""OpenAI's `/v1/videos`, scripted."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems, whole_percent
from relay.testing.scripted.server import answer

__all__ = ["ScriptedOpenAIVideos"]

_STATUSES: Final = {"running": "in_progress", "succeeded": "completed"}


class ScriptedOpenAIVideos(ScriptedItems):
    """OpenAI's `POST /v1/videos`, `GET /v1/videos/{id}` and `/content`, played as `ScriptedItems` says.

    With *poll_after_ms* each answer about a video that goes on asks, in `openai-poll-after-ms`, not to poll sooner.
    """

    prefix = "/v1"
    poll_after_ms: int | None = None

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/videos"): self._create,
            ("GET", "/videos/{task}"): self._show,
            ("GET", "/videos/{task}/content"): self._content,
        }

    def error(self, status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return f"video_{secrets.token_hex(24)}"

    async def _create(self, request: Request) -> Response:
        task = await self.take(request)
        return task if isinstance(task, Response) else answer(_video(task) | {"status": "queued", "progress": 0})

    async def _show(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return self.not_found()
        going_on = view.state in ("queued", "running", "unknown") and self.poll_after_ms is not None
        return answer(_shown(view), headers={"openai-poll-after-ms": str(self.poll_after_ms)} if going_on else None)

    async def _content(self, request: Request) -> Response:
        view = self.view(request)
        if view is None or view.state != "succeeded" or not view.has_file:
            return self.refused(404, "The video is not ready.", "not_found")
        return self.file()


def _video(task: ItemTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "object": "video",
        "created_at": int(task.created_at.timestamp()),
        "completed_at": None,
        "expires_at": None,
        "error": None,
        "model": task.input.get("model", "sora-2"),
        "prompt": task.input.get("prompt"),
        "remixed_from_video_id": None,
        "seconds": str(task.input.get("seconds", "4")),
        "size": task.input.get("size", "720x1280"),
    }


def _shown(view: ItemView) -> dict[str, Any]:
    shown = _video(view.task) | {"status": _STATUSES.get(view.state, view.word), "progress": _progress(view)}
    if view.state == "queued":
        shown["status"] = "queued"
    if view.state == "failed" or (view.state == "succeeded" and not view.has_file):
        code = "moderation_blocked" if view.policy else "video_generation_failed"
        shown["error"] = {"code": code, "message": view.reason or "The video could not be made."}
        shown["status"] = "failed" if view.state == "failed" else "completed"
    if view.state == "succeeded":
        expires = int(view.expires.timestamp())
        shown |= {"completed_at": int(view.task.created_at.timestamp()), "expires_at": expires}
    return shown


def _progress(view: ItemView) -> Any:
    return 0 if view.progress is None else whole_percent(view.progress)
