"""Runway's `/v1/tasks`, scripted."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedRunway"]

_STATUSES: Final = {"queued": "PENDING", "running": "RUNNING", "succeeded": "SUCCEEDED", "failed": "FAILED"}
_CREDITS: Final = {"credits": 25}


class ScriptedRunway(ScriptedItems):
    """Runway's submits, `GET /v1/tasks/{id}` and `DELETE`, played as `ScriptedItems` says.

    A task is THROTTLED while its scenario says `preprocessing`.
    """

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/v1/text_to_video"): self._create,
            ("POST", "/v1/image_to_video"): self._create,
            ("POST", "/v1/text_to_image"): self._create,
            ("GET", "/v1/tasks/{task}"): self._show,
            ("DELETE", "/v1/tasks/{task}"): self._delete,
        }

    def error(self, _status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"error": message, "code": code}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(uuid.uuid4())

    async def _create(self, request: Request) -> Response:
        if (problem := self._version(request)) is not None:
            return problem
        task = await self.take(request, prompt="promptText", required=False)
        return task if isinstance(task, Response) else answer({"id": task.id, "estimatedCost": _CREDITS})

    async def _show(self, request: Request) -> Response:
        if (problem := self._version(request)) is not None:
            return problem
        view = self.view(request)
        return self.not_found() if view is None else answer(self._shown(view))

    async def _delete(self, request: Request) -> Response:
        task = self.tasks.get(request.match_info["task"])
        if task is None:
            return self.not_found()
        task.cancelled = True
        return Response(status=204)

    def _version(self, request: Request) -> Response | None:
        """The refusal of a request that does not say which version of the API it means."""
        if "X-Runway-Version" in request.headers:
            return None
        return self.refused(400, "The X-Runway-Version header is required.", "missing_version")

    def _shown(self, view: ItemView) -> dict[str, Any]:
        status = "THROTTLED" if view.word == "preprocessing" else _STATUSES.get(view.state, view.word.upper())
        shown: dict[str, Any] = {
            "id": view.task.id,
            "createdAt": view.task.created_at.isoformat(),
            "status": status,
            "cost" if view.state in ("succeeded", "failed", "cancelled") else "estimatedCost": _CREDITS,
        }
        match view.state:
            case "running":
                shown["progress"] = 0.0 if view.progress is None else view.progress
            case "succeeded":
                shown["output"] = [f"{self.file_url(view.task)}?_jwt=scripted"] if view.has_file else []
            case "failed":
                shown["failure"] = view.reason or "An unexpected error occurred."
                shown["failureCode"] = "SAFETY.OUTPUT.VIDEO" if view.policy else "INTERNAL.BAD_OUTPUT.CODE01"
            case _:
                pass
        return shown
