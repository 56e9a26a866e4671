"""A scripted MiniMax, version 1: tasks that end with the id of a file, and HTTP 200 for all of it."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedMiniMax"]

_WORDS = {"running": "Processing", "succeeded": "Success", "failed": "Fail", "cancelled": "Fail"}
_CODES = {400: 2013, 401: 1004, 404: 2013, 413: 2013, 429: 1002}
_WITHHELD = 1027


class ScriptedMiniMax(ScriptedItems):
    """`/v1/video_generation`, its query, and the retrieval of files. The file of a task has the task's id and a 9."""

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/v1/video_generation"): self._make,
            ("GET", "/v1/query/video_generation"): self._show,
            ("GET", "/v1/files/retrieve"): self._retrieve,
        }

    def error(self, status: int, message: str, _code: str) -> object:
        """See `ScriptedItems`."""
        return _said(_CODES.get(status, 1000), message)

    def refused(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
        """An answer that is an error, with HTTP 200."""
        return answer(self.error(status, message, code), headers=headers)

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(10**17 + secrets.randbelow(10**17))

    async def _make(self, request: Request) -> Response:
        task = await self.take(request)
        return task if isinstance(task, Response) else answer({"task_id": task.id, **_said()})

    async def _show(self, request: Request) -> Response:
        view = self.view_of(request.query.get("task_id", ""))
        return self.not_found() if view is None else answer(_task(view))

    async def _retrieve(self, request: Request) -> Response:
        file = request.query.get("file_id", "")
        view = self.view_of(file[:-1])
        if view is None or file[-1] != "9" or not view.has_file:
            return self.not_found()
        found = {
            "file_id": int(file),
            "bytes": 0,
            "created_at": round(view.task.created_at.timestamp()),
            "filename": "output_aigc.mp4",
            "purpose": "video_generation",
            "download_url": self.file_url(view.task),
        }
        return answer({"file": found, **_said()})


def _task(view: ItemView) -> dict[str, Any]:
    match view.state:
        case "queued":
            word = "Preparing" if view.word == "preprocessing" else "Queueing"
        case "unknown":
            word = view.word
        case state:
            word = _WORDS[state]
    said = _said(_WITHHELD, view.reason or "") if view.policy else _said()
    file = f"{view.task.id}9" if view.has_file else ""
    return {"task_id": view.task.id, "status": word, "file_id": file, "video_width": 0, "video_height": 0, **said}


def _said(code: int = 0, message: str = "success") -> dict[str, Any]:
    return {"base_resp": {"status_code": code, "status_msg": message}}
