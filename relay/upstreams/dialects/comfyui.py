"""The dialect of ComfyUI: a queue and a history to poll, and a WebSocket that tells at once, and may miss the end.

The wire is that of ComfyUI's own `server.py` (`/prompt`, `/queue`, `/history`, `/ws`), `execution.py` (a history entry
and its messages) and `main.py` (`progress`).
"""

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from msgspec import Struct

from relay.clock import Clock, SystemClock
from relay.errors import UpstreamError, UsageError
from relay.observations import Answer, Failure, Observation, Result
from relay.upstreams.base import ExchangeListener, News
from relay.upstreams.http import HttpClient, Reply, Token
from relay.upstreams.items import TASK_LIMIT, as_object, segment
from relay.upstreams.listening import keep_listening, websocket
from relay.upstreams.media import media_type
from relay.upstreams.nodes import Heard

__all__ = ["ComfyUI"]

QUEUE_LIMIT: Final = 16 * 1024 * 1024
"""The most bytes of the queue that are read: it holds every workflow whole."""

HEARD_LIMIT: Final = 1_000
"""Of how many tasks is remembered what was heard of them."""

_LONG: Final = 256 * 1024
_OF_ONE_TASK: Final = frozenset({"malformed", "not-found", "refused"})
_STEPS_APART: Final = 1.0
"""Seconds between two polls that the steps within a node bring: there may be fifty a second."""


class _Queue(Struct):
    # Each entry is [number, prompt id, workflow, extra data, nodes to execute].
    queue_running: list[list[Any]]
    queue_pending: list[list[Any]]


class _Status(Struct):
    status_str: str | None = None
    messages: list[Any] | None = None


class _Past(Struct):
    outputs: dict[str, Any] | None = None
    status: _Status | None = None


class _Message(Struct):
    type: str
    data: dict[str, Any]


class ComfyUI:
    """One ComfyUI server. It has no accounts; a *token* is for a proxy before it.

    One request answers for all tasks in the queue, and one more for each that has left it. Of tasks that were submitted
    here, the WebSocket tells how far they are, and brings polls forward; without it they are polled all the same. The
    percent is how many of a workflow's nodes are done, an estimate: they do not take equally long. *interval*,
    *deadline* and *timeout* are in seconds. Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token = None,
        *,
        name: str = "comfyui",
        interval: float = 2.5,
        deadline: float = 1500.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.interval = interval
        self.deadline = deadline
        self.on_exchange: ExchangeListener | None = None
        self.on_news: News | None = None
        self._clock: Clock = clock or SystemClock()
        self._http = HttpClient(base_url, token, upstream=name, timeout=timeout, clock=clock)
        self._client = uuid.uuid4().hex
        self._heard: dict[str, Heard] = {}
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        self._listener = asyncio.create_task(keep_listening(self._listen, self._clock), name=f"listen to {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        await self._http.__aexit__(kind, error, trace)

    def credential(self) -> object:
        """A value that changes whenever the token does."""
        return self._http.credential()

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the queue says about *tasks*, and the history about those that are not in it. Raises UpstreamError.

        ComfyUI moves a task from the one to the other at once, so one that is in neither is not there.
        """
        reply = await self._request("GET", "queue", tasks, limit=QUEUE_LIMIT)
        waiting = await asyncio.to_thread(_read, reply) if len(reply.body) > _LONG else _read(reply)
        said: dict[str, Observation | UpstreamError] = {}
        for task in dict.fromkeys(tasks):
            found: Observation | UpstreamError | None
            try:
                found = self._queued(task, waiting[task]) if task in waiting else await self._past(task)
            except UpstreamError as error:
                if error.kind not in _OF_ONE_TASK:
                    raise
                found = error
            if found is not None:
                said[task] = found
        return Answer(listed=len(waiting), tasks=said)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Queue *input*, the body of the request, whose `prompt` is a workflow in API format; return its prompt id.

        Raises UsageError where there is no workflow, UpstreamError where ComfyUI does not take it.
        """
        if not isinstance(input.get("prompt"), dict) or not input["prompt"]:
            raise UsageError("the input needs the key 'prompt', a workflow in API format")
        reply = await self._request("POST", "prompt", (), json={**input, "client_id": self._client})
        task = as_object(reply.json()).get("prompt_id")
        if not isinstance(task, str) or not 0 < len(task) <= TASK_LIMIT:
            raise UpstreamError("malformed", "the task may be queued, but the answer names no prompt_id")
        return task

    async def cancel(self, task: str) -> None:
        """Take *task* out of the queue, or interrupt it where it runs. Raises UpstreamError.

        Nothing is interrupted unless the queue says that it runs: older servers interrupt whatever does.
        """
        reply = await self._request("GET", "queue", (task,), limit=QUEUE_LIMIT)
        waiting = _read(reply)
        if task not in waiting:
            raise UpstreamError("not-found", "the task is not in the queue; it may have ended")
        if waiting[task].position is None:
            await self._request("POST", "interrupt", (task,), json={"prompt_id": task})
        else:
            await self._request("POST", "queue", (task,), json={"delete": [task]})

    def _queued(self, task: str, place: "_Place") -> Observation:
        if place.position is not None:
            return Observation(status="queued", raw_status="pending", queue_position=place.position)
        heard = self._heard.get(task)
        percent = heard.percent(place.nodes) if heard is not None else None
        source = None if percent is None else "estimated"
        return Observation(status="running", raw_status="running", percent=percent, source=cast(Any, source))

    async def _past(self, task: str) -> Observation | None:
        reply = await self._request("GET", f"history/{segment(task)}", (task,))
        entry = as_object(reply.json()).get(task)
        if entry is None:
            return None
        try:
            past = msgspec.convert(entry, _Past)
        except msgspec.ValidationError as error:
            raise UpstreamError("malformed", f"the answer is not in this dialect: {error}") from None
        self._heard.pop(task, None)
        word = self._http.mask(past.status.status_str or "") if past.status is not None else None
        if word == "error":
            return Observation(status="failed", raw_status=word, failure=self._failure(past.status))
        return Observation(status="succeeded", raw_status=word, result=self._result(past.outputs or {}))

    def _failure(self, status: _Status | None) -> Failure:
        messages = dict(_pairs(status.messages if status is not None else None))
        if "execution_interrupted" in messages:
            return Failure(kind="cancelled", message="it was interrupted")
        data = messages.get("execution_error", {})
        said = data.get("exception_message")
        words = " ".join(said.split()) if isinstance(said, str) else "the upstream says 'error'"
        where = f"{data['node_type']}: " if isinstance(data.get("node_type"), str) else ""
        memory = "OutOfMemory" in str(data.get("exception_type"))
        return Failure(kind="upstream", message=self._http.mask(where + words), retryable=memory)

    def _result(self, outputs: Mapping[str, Any]) -> Result:
        """The files that were saved; where there are none, the passing ones, which a restart of ComfyUI clears away."""
        found = list(_files(outputs))
        kept = [file for file in found if file.get("type", "output") == "output"] or found
        kinds = [media_type(file["filename"]) for file in kept]
        return Result(
            urls=tuple(f"{self._http.base_url}/view?{urlencode(file)}" for file in kept),
            media_types=tuple(kind for kind in kinds if kind is not None) if None not in kinds else (),
        )

    async def _request(
        self, method: str, path: str, tasks: Sequence[str], *, json: Any = None, limit: int | None = None
    ) -> Reply:
        return await self._http.request(
            method, path, json=json, jobs=tuple(tasks), limit=limit, on_exchange=self.on_exchange
        )

    async def _listen(self) -> bool:
        """Hear the WebSocket out; return whether it said anything. Pictures are binary, and passed over."""
        heard = False
        async with websocket(self._http, f"ws?clientId={self._client}") as socket:
            self._wake(list(self._heard))
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    heard = True
                    self._hear(message.data)
        return heard

    def _hear(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=_Message)
        except (msgspec.DecodeError, RecursionError):
            return
        task = message.data.get("prompt_id")
        if not isinstance(task, str) or len(task) > TASK_LIMIT:
            return
        heard = self._heard.pop(task, None) or Heard()
        self._heard[task] = heard
        if len(self._heard) > HEARD_LIMIT:
            del self._heard[next(iter(self._heard))]
        now = self._clock.monotonic()
        if heard.hear(message.type, message.data) or now >= heard.told_at + _STEPS_APART:
            heard.told_at = now
            self._wake([task])

    def _wake(self, tasks: Sequence[str]) -> None:
        if self.on_news is not None:
            for task in tasks:
                self.on_news(task)


class _Place(Struct, frozen=True):
    """Where a task is in the queue, counted from 0; it runs where there is no position."""

    nodes: int
    position: int | None = None


def _read(reply: Reply) -> dict[str, _Place]:
    try:
        queue = msgspec.convert(as_object(reply.json()), _Queue)
    except msgspec.ValidationError as error:
        raise UpstreamError("malformed", f"the answer is not in this dialect: {error}") from None
    # The queue is a heap: only its first entry is where it belongs.
    pending = sorted(filter(_is_entry, queue.queue_pending), key=lambda entry: entry[0])
    places = {entry[1]: _Place(_nodes(entry), number) for number, entry in enumerate(pending)}
    return places | {entry[1]: _Place(_nodes(entry)) for entry in filter(_is_entry, queue.queue_running)}


def _is_entry(entry: list[Any]) -> bool:
    return len(entry) > 1 and isinstance(entry[0], int | float) and isinstance(entry[1], str)


def _nodes(entry: list[Any]) -> int:
    return len(_fields(entry[2])) if len(entry) > 2 else 0


def _pairs(messages: list[Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in messages or ():
        match message:
            case [str(kind), data]:
                yield kind, _fields(data)
            case _:
                pass


def _files(outputs: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Each file in what nodes put out, by whatever name they call their lists of them."""
    for output in outputs.values():
        for files in _fields(output).values():
            for file in map(_fields, cast("list[object]", files) if isinstance(files, list) else ()):
                named = {key: file[key] for key in ("filename", "subfolder", "type") if isinstance(file.get(key), str)}
                if named.get("filename"):
                    yield named


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
