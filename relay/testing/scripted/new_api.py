"""The gateway new-api's `/v1/video/generations`, scripted."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemView, ScriptedItems, whole_percent
from relay.testing.scripted.server import answer

__all__ = ["ScriptedNewApi"]

_STATUSES: Final = {"running": "IN_PROGRESS", "succeeded": "SUCCESS", "failed": "FAILURE"}
_QUEUED: Final = {"preprocessing": "NOT_START", "queued": "QUEUED"}


class ScriptedNewApi(ScriptedItems):
    """new-api's `POST` and `GET /v1/video/generations`, played as `ScriptedItems` says.

    A task that there is not is status 400, one that failed has 100%, both as the gateway has it.
    """

    prefix = "/v1"

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/video/generations"): self._create,
            ("GET", "/video/generations/{task}"): self._show,
        }

    def error(self, _status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"code": code, "message": message, "data": None}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return f"task_{secrets.token_urlsafe(24)}"

    async def _create(self, request: Request) -> Response:
        task = await self.take(request)
        if isinstance(task, Response):
            return task
        video = {"id": task.id, "task_id": task.id, "object": "video", "status": "queued", "progress": 0}
        created_at = int(task.created_at.timestamp())
        return answer(video | {"model": task.input.get("model", ""), "created_at": created_at})

    async def _show(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return self.refused(400, "task_not_exist", "task_not_exist")
        return answer({"code": "success", "message": "", "data": self._shown(view)})

    def _shown(self, view: ItemView) -> dict[str, Any]:
        task = view.task
        seconds = int(task.created_at.timestamp())
        ended = view.state in ("succeeded", "failed")
        reason = view.reason or "task failed" if view.state == "failed" else ""
        return {
            "id": 1,
            "created_at": seconds,
            "updated_at": seconds,
            "task_id": task.id,
            "platform": "55",
            "user_id": 1,
            "group": "default",
            "channel_id": 1,
            "quota": 0,
            "action": "textGenerate",
            "status": _QUEUED.get(view.word, "QUEUED")
            if view.state == "queued"
            else _STATUSES.get(view.state, view.word),
            "fail_reason": reason,
            "result_url": self.file_url(task) if view.has_file else reason,
            "submit_time": seconds,
            "start_time": seconds,
            "finish_time": seconds if ended else 0,
            "progress": "100%" if ended else _percent(view.progress),
            "properties": {"input": task.input.get("prompt", "")},
            "data": None,
        }


def _percent(progress: Any) -> Any:
    figure = 0 if progress is None else whole_percent(progress)
    return f"{figure}%" if isinstance(figure, int) and not isinstance(figure, bool) else figure
