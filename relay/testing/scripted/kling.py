"""A scripted Kling: envelopes with a code, and HTTP 200 also for errors."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedKling"]

_WORDS = {"queued": "submitted", "running": "processing", "succeeded": "succeed"}
_CODES = {400: 1201, 401: 1004, 404: 1203, 413: 1200, 429: 1302}


class ScriptedKling(ScriptedItems):
    """`/v1/videos/text2video` and the other routes: tasks made and read."""

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/v1/videos/{route}"): self._make,
            ("GET", "/v1/videos/{route}/{task}"): self._show,
        }

    def error(self, status: int, message: str, _code: str) -> object:
        """See `ScriptedItems`."""
        return {"code": _CODES.get(status, 5000), "message": message, "request_id": secrets.token_hex(8)}

    def refused(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
        """An answer that is an error, with HTTP 200."""
        return answer(self.error(status, message, code), headers=headers)

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(secrets.randbelow(10**18))

    async def _make(self, request: Request) -> Response:
        task = await self.take(request, required=False)
        if isinstance(task, Response):
            return task
        return answer(self._envelope(ItemView(task=task, state="queued", word="queued")))

    async def _show(self, request: Request) -> Response:
        id = request.match_info["task"]
        view = self.view(request) or next(
            (self.view_of(task.id) for task in self.tasks.values() if task.input.get("external_task_id") == id), None
        )
        return self.not_found() if view is None else answer(self._envelope(view))

    def _envelope(self, view: ItemView) -> dict[str, Any]:
        task = view.task
        born = round(task.created_at.timestamp() * 1000)
        data: dict[str, Any] = {
            "task_id": task.id,
            "task_status": view.word if view.state == "unknown" else _WORDS.get(view.state, view.state),
            "task_status_msg": _message(view),
            "task_info": {"external_task_id": task.input.get("external_task_id")},
            "created_at": born,
            "updated_at": round(self._clock.now().timestamp() * 1000),
        }
        if view.state == "succeeded":
            videos = [{"id": task.id, "url": self.file_url(task), "duration": "5.1"}]
            data["task_result"] = {"videos": videos if view.has_file else []}
        return {"code": 0, "message": "SUCCEED", "request_id": secrets.token_hex(8), "data": data}


def _message(view: ItemView) -> str:
    if view.state != "failed":
        return ""
    return "Failure to pass the risk control system" if view.policy else view.reason or ""
