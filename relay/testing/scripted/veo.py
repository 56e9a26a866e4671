"""A scripted Gemini API, as far as Veo needs it: operations that take long, and files that need the key."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp.web import Request, Response

from relay.testing.scripted.base import ItemHandler, ItemTask, ItemView, ScriptedItems
from relay.testing.scripted.server import answer

__all__ = ["ScriptedVeo"]

_MODEL = "veo-scripted"
_STATES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
_INTERNAL = 13


class ScriptedVeo(ScriptedItems):
    """`models/*:predictLongRunning` and the operations it begins, under `/v1beta`."""

    prefix = "/v1beta"

    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """See `ScriptedItems`."""
        return {
            ("POST", "/models/{model:[^/:]+}:predictLongRunning"): self._begin,
            ("GET", "/{task:models/[^/]+/operations/[^/]+}"): self._show,
            ("GET", "/files/{file:[^/:]+}:download"): self._download,
        }

    def error(self, status: int, message: str, _code: str) -> object:
        """See `ScriptedItems`."""
        return {"error": {"code": status, "message": message, "status": _STATES.get(status, "UNKNOWN")}}

    def new_id(self) -> str:
        """See `ScriptedItems`."""
        return f"models/{_MODEL}/operations/{secrets.token_hex(6)}"

    def authorised(self, request: Request) -> bool:
        """See `ScriptedItems`."""
        return request.headers.get("x-goog-api-key") == self.token

    def file_url(self, task: ItemTask, kind: str = "mp4") -> str:
        """See `ScriptedItems`; it is answered to those who send the key."""
        return f"{self.url}/files/{_last(task)}.{kind}:download?alt=media"

    async def _begin(self, request: Request) -> Response:
        task = await self.take(request, prompt="instances.0.prompt")
        return task if isinstance(task, Response) else answer({"name": task.id})

    async def _show(self, request: Request) -> Response:
        view = self.view(request)
        return self.not_found() if view is None else answer({"name": view.task.id, **self._operation(view)})

    async def _download(self, request: Request) -> Response:
        known = {_last(task) for task in self.tasks.values()}
        return self.file() if request.match_info["file"].partition(".")[0] in known else self.not_found()

    def _operation(self, view: ItemView) -> dict[str, Any]:
        match view:
            case ItemView(state="succeeded", has_file=True):
                return _done(generatedSamples=[{"video": {"uri": self.file_url(view.task)}}])
            case ItemView(state="succeeded"):
                return _done()
            case ItemView(state="failed", policy=True):
                return _done(raiMediaFilteredCount=1, raiMediaFilteredReasons=[view.reason])
            case ItemView(state="failed"):
                return {"done": True, "error": {"code": _INTERNAL, "message": view.reason, "status": "INTERNAL"}}
            case _:
                return {}


def _done(**videos: Any) -> dict[str, Any]:
    kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.PredictLongRunningResponse"
    return {"done": True, "response": {"@type": kind, "generateVideoResponse": videos}}


def _last(task: ItemTask) -> str:
    return task.id.rpartition("/")[2]
