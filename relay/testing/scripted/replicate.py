"""A scripted Replicate: predictions, whose progress is in their log."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedReplicate"]

_WORDS = {"queued": "starting", "running": "processing", "cancelled": "canceled"}
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class ScriptedReplicate(ScriptedItems):
    """`/v1/predictions`, and those of models and deployments: made, read and cancelled."""

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/v1/predictions"): self._make,
            ("POST", "/v1/models/{owner}/{name}/predictions"): self._make,
            ("POST", "/v1/deployments/{owner}/{name}/predictions"): self._make,
            ("GET", "/v1/predictions/{task}"): self._show,
            ("POST", "/v1/predictions/{task}/cancel"): self._cancel,
        }

    def error(self, status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"type": code, "title": message.rstrip("."), "detail": message, "status": status}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(26))

    async def _make(self, request: Request) -> Response:
        task = await self.take(request, prompt="input.prompt", required=False)
        if isinstance(task, Response):
            return task
        if not isinstance(task.input.get("input"), dict):
            return self.refused(422, "input is required", "invalid_input")
        return answer(self._prediction(ItemView(task=task, state="queued", word="queued")), status=201)

    async def _show(self, request: Request) -> Response:
        view = self.view(request)
        return self.not_found() if view is None else answer(self._prediction(view))

    async def _cancel(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return self.not_found()
        view.task.cancelled = view.state not in ("succeeded", "failed")
        return await self._show(request)

    def _prediction(self, view: ItemView) -> dict[str, Any]:
        task = view.task
        ended = view.state in ("succeeded", "failed", "cancelled")
        address = f"{self.origin}{self.prefix}/v1/predictions/{task.id}"
        return {
            "id": task.id,
            "model": task.input.get("model", "scripted/video"),
            "version": task.input.get("version", "hidden"),
            "input": task.input.get("input", {}),
            "logs": self._logs(task),
            "output": self.file_url(task) if view.has_file else None,
            "data_removed": False,
            "error": _reason(view),
            "status": _WORDS.get(view.state, view.state) if view.state != "unknown" else view.word,
            "created_at": _written(task.created_at),
            "started_at": None if view.state == "queued" else _written(task.created_at),
            "completed_at": _written(self._clock.now()) if ended else None,
            "metrics": {"predict_time": 41.0} if view.state == "succeeded" else {},
            "urls": {"get": address, "cancel": f"{address}/cancel", "web": f"{self.origin}/p/{task.id}"},
        }

    def _logs(self, task: ItemTask) -> str:
        figures = [round(100 * figure) for figure in self.figures(task)]
        bars = [f"{figure:3d}%|{'#' * (figure // 10):<10}| {figure}/100\n" for figure in figures]
        return "".join([f"Using seed: {task.created_at.microsecond}\n", *bars]) if bars else ""


def _reason(view: ItemView) -> str | None:
    if view.state != "failed":
        return None
    return f"{view.reason} (E005)" if view.policy else view.reason


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
