"""A scripted ComfyUI: its queue, its history, and the WebSocket that reports a client's own prompts."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any, cast

from aiohttp import WSMsgType
from aiohttp.web import Request, Response, WebSocketResponse

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedComfyUI"]

_TICK = 0.25
_STEPS = 20
_WORKFLOW = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a scripted task"}},
    "2": {"class_type": "KSampler", "inputs": {"positive": ["1", 0]}},
    "3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0]}},
}
_PREVIEW = b"\0\0\0\1\0\0\0\1" + b"\xff\xd8\xff"


class ScriptedComfyUI(ScriptedItems):
    """`/prompt`, `/queue`, `/history`, `/interrupt` and `/ws`. The prompt is the `text` of node `1`.

    It asks for no token, but refuses a wrong one. Nodes `1` to `3` run one after the other, and a scenario's figure is
    that of node `2`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sockets: dict[str, WebSocketResponse] = {}

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/prompt"): self._prompt,
            ("GET", "/queue"): self._show_queue,
            ("POST", "/queue"): self._delete,
            ("POST", "/interrupt"): self._interrupt,
            ("GET", "/history/{task}"): self._show_history,
            ("GET", "/view"): self._view,
            ("GET", "/ws"): cast(ItemHandler, self._talk),
        }

    def error(self, _status: int, message: str, code: str) -> object:
        """See `ScriptedItems`."""
        return {"error": {"type": code, "message": message, "details": "", "extra_info": {}}, "node_errors": {}}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return str(uuid.uuid4())

    def authorised(self, request: Request) -> bool:
        """See `ScriptedItems`."""
        return request.headers.get("Authorization", f"Bearer {self.token}") == f"Bearer {self.token}"

    async def hang_up(self) -> None:
        """Close every WebSocket, as a server that restarts does."""
        for socket in list(self.sockets.values()):
            await socket.close()

    async def _prompt(self, request: Request) -> Response:
        task = await self.take(request, prompt="prompt.1.inputs.text", required=False)
        if isinstance(task, Response):
            return task
        if not isinstance(task.input.get("prompt"), dict):
            del self.tasks[task.id]
            return self.refused(400, "No prompt provided", "no_prompt")
        return answer({"prompt_id": task.id, "number": len(self.tasks), "node_errors": {}})

    async def _show_queue(self, _: Request) -> Response:
        running, pending = list[Any](), list[Any]()
        for number, id in enumerate(self.tasks):
            view = self.view_of(id)
            if view is not None and view.state in ("queued", "running", "unknown"):
                entry = [number, id, _workflow(view.task), {"client_id": view.task.input.get("client_id")}, ["3"]]
                (pending if view.state == "queued" else running).append(entry)
        # The queue is a heap, so it need not be in order.
        return answer({"queue_running": running, "queue_pending": pending[:1] + pending[:0:-1]})

    async def _delete(self, request: Request) -> Response:
        for id in (await request.json()).get("delete", []):
            view = self.view_of(id)
            if view is not None and view.state == "queued":
                del self.tasks[id]
        return Response()

    async def _interrupt(self, request: Request) -> Response:
        view = self.view_of((await request.json()).get("prompt_id", ""))
        if view is not None and view.state == "running":
            view.task.cancelled = True
        return Response()

    async def _show_history(self, request: Request) -> Response:
        view = self.view(request)
        if view is None or view.state not in ("succeeded", "failed", "cancelled"):
            return answer({})
        return answer({view.task.id: self._entry(view)})

    async def _view(self, request: Request) -> Response:
        return self.file() if request.query.get("filename") else self.not_found()

    def _entry(self, view: ItemView) -> dict[str, Any]:
        file = {"filename": f"{view.task.id}.mp4", "subfolder": "", "type": "output"}
        preview = {"filename": "preview.png", "subfolder": "", "type": "temp"}
        outputs = {"3": {"images": [preview, file], "animated": [True]}} if view.has_file else {}
        good = view.state == "succeeded"
        status = {"status_str": "success" if good else "error", "completed": good, "messages": self._messages(view)}
        return {"prompt": [0, view.task.id, _workflow(view.task), {}, ["3"]], "outputs": outputs, "status": status}

    def _messages(self, view: ItemView) -> list[Any]:
        about = {"prompt_id": view.task.id, "timestamp": 0}
        told: list[Any] = [["execution_start", about], ["execution_cached", {**about, "nodes": []}]]
        match view.state:
            case "succeeded":
                return [*told, ["execution_success", about]]
            case "cancelled":
                return [*told, ["execution_interrupted", {**about, "node_id": "2", "node_type": "KSampler"}]]
            case _:
                error = {"exception_message": f"{view.reason}\n", "exception_type": "RuntimeError"}
                return [*told, ["execution_error", {**about, "node_id": "2", "node_type": "KSampler", **error}]]

    async def _talk(self, request: Request) -> WebSocketResponse:
        client = request.query.get("clientId") or uuid.uuid4().hex
        socket = WebSocketResponse()
        await socket.prepare(request)
        self.sockets[client] = socket
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}}})
        telling = asyncio.create_task(self._tell(socket, client))
        try:
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            if self.sockets.get(client) is socket:
                del self.sockets[client]
        return socket

    async def _tell(self, socket: WebSocketResponse, client: str) -> None:
        """Send what is new about the prompts of *client*, four times a second."""
        told: dict[str, list[str]] = {}
        while not socket.closed:
            for task in [task for task in self.tasks.values() if task.input.get("client_id") == client]:
                sent = told.setdefault(task.id, [])
                for message in self._so_far(task)[len(sent) :]:
                    sent.append(message)
                    await socket.send_str(message)
                    await socket.send_bytes(_PREVIEW)
            await self._clock.sleep(_TICK)

    def _so_far(self, task: ItemTask) -> list[str]:
        """All messages about *task* up to now, in order."""
        view = self.view_of(task.id)
        figures = self.figures(task)
        if view is None or (view.state == "queued" and not figures):
            return []
        told: list[tuple[str, dict[str, Any]]] = [
            ("execution_start", {}),
            ("execution_cached", {"nodes": []}),
            ("executing", {"node": "1"}),
            ("executing", {"node": "2"}),
            *(("progress", {"node": "2", "value": round(figure * _STEPS), "max": _STEPS}) for figure in figures),
        ]
        match view.state:
            case "succeeded":
                told += [("executing", {"node": "3"}), ("executed", {"node": "3", "output": {}})]
                told += [("execution_success", {}), ("executing", {"node": None})]
            case "failed":
                told += [("execution_error", {"node_id": "2", "exception_message": view.reason})]
            case "cancelled":
                told += [("execution_interrupted", {"node_id": "2"})]
            case _:
                pass
        return [json.dumps({"type": kind, "data": {**data, "prompt_id": task.id}}) for kind, data in told]


def _workflow(task: ItemTask) -> dict[str, Any]:
    workflow = task.input.get("prompt")
    return cast("dict[str, Any]", workflow) if isinstance(workflow, dict) else _WORKFLOW
