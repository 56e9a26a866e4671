"""Luma's `/dream-machine/v1/generations`, scripted."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedLuma"]

_STATES: Final = {"queued": "queued", "running": "dreaming", "succeeded": "completed", "failed": "failed"}


class ScriptedLuma(ScriptedItems):
    """Luma's submits, `GET` and `DELETE /dream-machine/v1/generations/{id}`, played as `ScriptedItems` says."""

    prefix = "/dream-machine/v1"

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/generations/video"): self._create,
            ("POST", "/generations/image"): self._create,
            ("GET", "/generations/{task}"): self._show,
            ("DELETE", "/generations/{task}"): self._delete,
        }

    def error(self, _status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"detail": message, "code": code}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(uuid.uuid4())

    async def _create(self, request: Request) -> Response:
        task = await self.take(request, required=False)
        if isinstance(task, Response):
            return task
        task.input = {**task.input, "generation_type": request.path.rpartition("/")[2]}
        return answer(_generation(task) | {"state": "queued"}, status=201)

    async def _show(self, request: Request) -> Response:
        view = self.view(request)
        return self.not_found() if view is None else answer(self._shown(view))

    async def _delete(self, request: Request) -> Response:
        return self.not_found() if self.tasks.pop(request.match_info["task"], None) is None else Response(status=204)

    def _shown(self, view: ItemView) -> dict[str, Any]:
        shown = _generation(view.task) | {"state": _STATES.get(view.state, view.word)}
        if view.state == "failed":
            shown["failure_reason"] = view.reason or "The generation has failed."
        if view.state == "succeeded":
            image = shown["generation_type"] == "image"
            kind = "image" if image else "video"
            url = self.file_url(view.task, "jpg" if image else "mp4") if view.has_file else None
            shown["assets"] = {"video": None, "image": None, "progress_video": None} | {kind: url}
        return shown


def _generation(task: ItemTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "generation_type": task.input.get("generation_type", "video"),
        "state": "queued",
        "failure_reason": None,
        "created_at": task.created_at.isoformat(),
        "assets": None,
        "model": task.input.get("model", "ray-2"),
        "request": dict(task.input),
    }
