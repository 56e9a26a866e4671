"""A scripted fal: its queue, with the result of a request at an address of its own."""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

from aiohttp.web import Request, Response, StreamResponse

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems
from relay.testing.scripted.scenarios import Scenario
from relay.testing.scripted.server import answer

__all__ = ["ScriptedFal"]

_APPLICATION = re.compile(r"(?:(?:workflows|comfy)/)?[^/]+/[^/]+")
_TICK = 0.25
_COMMENT = 15.0
_SCRIPTED = "scripted/video"
_REQUEST = "/{application:.+}/requests/{task}"


class ScriptedFal(ScriptedItems):
    """Requests put into the queue of any application, their status with or without logs, and their results."""

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("GET", f"{_REQUEST}/status"): self._show_status,
            ("GET", f"{_REQUEST}/status/stream"): cast(ItemHandler, self._stream_status),
            ("GET", _REQUEST): self._show_result,
            ("PUT", f"{_REQUEST}/cancel"): self._cancel,
            ("POST", "/{model:[^/]+/.+}"): self._queue,
        }

    def error(self, _status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"detail": message, "error_type": code}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(uuid.uuid4())

    def authorised(self, request: Request) -> bool:
        """See `ScriptedItems`."""
        return request.headers.get("Authorization") == f"Key {self.token}"

    def add_task(self, scenario: str | Scenario | None = None, *, input: Mapping[str, Any] | None = None) -> str:
        """Create a request of the application `scripted/video`, and return its task id."""
        return f"{_SCRIPTED}/requests/{super().add_task(scenario, input=input)}"

    async def _queue(self, request: Request) -> Response:
        task = await self.take(request, required=False)
        if isinstance(task, Response):
            return task
        if (called := request.query.get("fal_webhook")) is not None:
            task.input = {**task.input, "fal_webhook": called}
        application = _APPLICATION.match(request.match_info["model"])
        return answer({"status": "IN_QUEUE", "queue_position": 0, **self._addresses(task, application)})

    async def _show_status(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return self.not_found()
        application = _APPLICATION.fullmatch(request.match_info["application"])
        body: dict[str, Any] = {"status": _word(view), **self._addresses(view.task, application)}
        if view.state == "queued":
            return answer({**body, "queue_position": _place(view)}, status=202)
        body["logs"] = self._logs(view.task) if request.query.get("logs") in ("1", "true") else None
        if body["status"] != "COMPLETED":
            return answer(body, status=202)
        body["metrics"] = {"inference_time": 41.0}
        if view.state == "cancelled":
            body |= {"error": "Request was cancelled", "error_type": "client_cancelled"}
        elif view.state == "failed" and not view.policy:
            body |= {"error": view.reason, "error_type": "runner_server_error"}
        return answer(body)

    async def _stream_status(self, request: Request) -> StreamResponse:
        """Each new status, four times a second at most, and a comment every 15 s; closed behind COMPLETED."""
        view = self.view(request)
        if view is None:
            return self.not_found()
        application = _APPLICATION.fullmatch(request.match_info["application"])
        response = StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told, quiet = "", 0.0
        while view is not None:
            body: dict[str, Any] = {"status": _word(view), **self._addresses(view.task, application)}
            if view.state == "queued":
                body["queue_position"] = _place(view)
            data = json.dumps(body)
            if data != told or quiet >= _COMMENT:
                await response.write(b": ping\n\n" if data == told else f"data: {data}\n\n".encode())
                told, quiet = data, 0.0
            if _word(view) == "COMPLETED":
                break
            await self._clock.sleep(_TICK)
            quiet += _TICK
            view = self.view(request)
        return response

    async def _show_result(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return self.not_found()
        if _word(view) != "COMPLETED":
            return self.refused(400, "Request is still in progress", "bad_request")
        if view.policy:
            problem = {"loc": ["body", "prompt"], "msg": view.reason, "type": "content_policy_violation"}
            return answer({"detail": [problem]}, status=422, headers={"X-Fal-Error-Type": "bad_request"})
        if view.state != "succeeded":
            return self.refused(500, view.reason or "Request was cancelled", "runner_server_error")
        file = {"url": self.file_url(view.task), "content_type": "video/mp4", "file_name": "raw.mp4"}
        return answer({"video": file if view.has_file else None, "seed": 1})

    async def _cancel(self, request: Request) -> Response:
        view = self.view(request)
        if view is None:
            return answer({"status": "NOT_FOUND"}, status=404)
        if _word(view) == "COMPLETED":
            return answer({"status": "ALREADY_COMPLETED"}, status=400)
        view.task.cancelled = True
        return answer({"status": "CANCELLATION_REQUESTED"}, status=202)

    def _addresses(self, task: ItemTask, application: re.Match[str] | None) -> dict[str, Any]:
        address = f"{self.url}/{application[0] if application else _SCRIPTED}/requests/{task.id}"
        return {
            "request_id": task.id,
            "response_url": address,
            "status_url": f"{address}/status",
            "cancel_url": f"{address}/cancel",
        }

    def _logs(self, task: ItemTask) -> list[dict[str, Any]]:
        stamp = task.created_at.isoformat()
        return [
            {"message": f"rendered {round(100 * figure)} of 100 frames", "level": "INFO", "timestamp": stamp}
            for figure in self.figures(task)
        ]


def _place(view: ItemView) -> int:
    return 2 if view.word == "preprocessing" else 0


def _word(view: ItemView) -> str:
    match view.state:
        case "queued":
            return "IN_QUEUE"
        case "running":
            return "IN_PROGRESS"
        case "unknown":
            return view.word
        case _:
            return "COMPLETED"
