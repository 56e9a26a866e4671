"""The dialect of ComfyUI: a queue and a history to poll, and a WebSocket that reports at once, and may miss the end.

The wire is that of ComfyUI's own `server.py` (`/prompt`, `/queue`, `/history`, `/ws`), `execution.py` (a history entry
and its messages) and `main.py` (`progress`).
"""

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Final, Self, Unpack, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from msgspec import Struct

from relay.clock import Clock, SystemClock
from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.secret import NO_SECRET, Secret
from relay.supervision.supervisor import Supervise, unsupervised
from relay.upstreams.base import News
from relay.upstreams.dialects.comfyui_nodes import NodeProgress
from relay.upstreams.dialects.comfyui_queue import Place, read_queue
from relay.upstreams.http.account import AccountUpstream, TimingOptions
from relay.upstreams.http.client import Token
from relay.upstreams.http.empty_answer import without_a_list
from relay.upstreams.http.push import keep_listening, websocket
from relay.upstreams.http.redaction import redact_answer
from relay.upstreams.http.reply import NotYetError, Reply
from relay.upstreams.per_task import TASK_LIMIT, as_object, paced, segment
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import safe
from relay.upstreams.reading.media import media_type_of_file
from relay.upstreams.reading.values import identifier
from relay.upstreams.settings import Name, PerAccountSettings, UpstreamSettings

__all__ = ["ComfyUI", "ComfyUISettings"]

QUEUE_LIMIT: Final = 16 * 1024 * 1024
"""The most bytes of the queue that are read: it holds every workflow whole."""

PROGRESS_LIMIT: Final = 1_000
"""How many tasks' WebSocket progress is kept."""

_LONG: Final = 256 * 1024
_OF_ONE_TASK: Final = frozenset({"malformed", "not-found", "refused"})
_STEPS_APART: Final = 1.0
"""Seconds between two polls that the steps within a node bring: there may be fifty a second."""


class _Message(Struct):
    type: str
    data: dict[str, Any]


class ComfyUISettings(PerAccountSettings, frozen=True, kw_only=True):
    """One ComfyUI server, as `relay.upstreams.ComfyUI` has it."""

    kind: ClassVar[str] = "comfyui"

    token: Secret = NO_SECRET
    name: Name = kind


class ComfyUI(AccountUpstream):
    """One ComfyUI server. It has no accounts; a *token* is for a proxy before it.

    One request answers for all tasks in the queue, and one more for each that has left it. Of tasks that were submitted
    here, the WebSocket reports the progress, and brings polls forward; without it they are polled all the same. The
    percent is how many of a workflow's nodes are done, an estimate: they do not take equally long. *interval*,
    *deadline* and *timeout* are in seconds. Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = ComfyUISettings

    def __init__(
        self, base_url: str, token: Token = None, *, clock: Clock | None = None, **options: Unpack[TimingOptions]
    ) -> None:
        super().__init__(base_url, token, clock=clock, **options)
        self.on_news: News | None = None
        self.supervise: Supervise = unsupervised
        self._clock: Clock = clock or SystemClock()
        self._client = uuid.uuid4().hex
        self._progress: dict[str, NodeProgress] = {}
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        listen = partial(keep_listening, self._listen, self._clock)
        self._listener = self.supervise(f"the listener to {self.name}", listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the queue says about *tasks*, and the history about those that are not in it. Raises UpstreamError.

        ComfyUI moves a task from the one to the other at once, so one that is in neither is not there. Where a part of
        the queue cannot be read, tasks that are not in the rest get an UpstreamError each.
        """
        reply = await self._request("GET", "queue", tasks, limit=QUEUE_LIMIT)
        if (answer := without_a_list(reply, tasks)) is not None:
            return answer
        queue = await asyncio.to_thread(read_queue, reply) if len(reply.body) > _LONG else read_queue(reply)
        waiting, problem = queue
        if problem is not None and not any(task in waiting for task in tasks):
            raise problem
        answers: dict[str, Observation | UpstreamError] = {}
        for task in dict.fromkeys(tasks):
            found: Observation | UpstreamError | None
            try:
                found = self._queued(task, waiting[task]) if task in waiting else problem or await self._past(task)
            except NotYetError:
                found = Observation(status="running")
            except UpstreamError as error:
                if error.kind not in _OF_ONE_TASK:
                    raise
                found = error
            if found is not None:
                answers[task] = redact_answer(paced(found, reply), self._http.redactor)
        return Answer(listed=len(waiting), tasks=answers, poll_after=reply.poll_after)

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        if not isinstance(input.get("prompt"), dict) or not input["prompt"]:
            raise UsageError("the input needs the key 'prompt', a workflow in API format")

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Queue *input*, the body of the request, whose `prompt` is a workflow in API format; return its prompt id.

        Raises UsageError where there is no workflow, UpstreamError where ComfyUI does not take it.
        """
        self.check_input(input)
        reply = await self._request("POST", "prompt", (), json={**input, "client_id": self._client})
        task = identifier(as_object(reply.json()).get("prompt_id"))
        if task is None or len(task) > TASK_LIMIT:
            raise UpstreamError("malformed", "the task may be queued, but the answer names no prompt_id")
        return self._http.redactor.task(task)

    async def cancel(self, task: str) -> None:
        """Take *task* out of the queue, or interrupt it where it runs. Raises UpstreamError.

        Nothing is interrupted unless the queue says that it runs: older servers interrupt whatever does.
        """
        reply = await self._request("GET", "queue", (task,), limit=QUEUE_LIMIT)
        waiting, problem = read_queue(reply)
        if problem is not None and task not in waiting:
            raise problem
        if task not in waiting:
            raise UpstreamError("not-found", "the task is not in the queue; it may have ended")
        if waiting[task].position is None:
            await self._request("POST", "interrupt", (task,), json={"prompt_id": task})
        else:
            await self._request("POST", "queue", (task,), json={"delete": [task]})

    def _queued(self, task: str, place: Place) -> Observation:
        if place.position is not None:
            return Observation(status="queued", raw_status="pending", queue_position=place.position)
        progress = self._progress.get(task)
        percent = progress.percent(place.nodes) if progress is not None else None
        source = None if percent is None else "estimated"
        return Observation(status="running", raw_status="running", percent=percent, source=cast(Any, source))

    async def _past(self, task: str) -> Observation | None:
        reply = await self._request("GET", f"history/{segment(task)}", (task,))
        history = Fields(as_object(reply.json()))
        if not history[task]:
            return None
        past = history.vital(task)
        self._progress.pop(task, None)
        word = past["status"]
        state = Fields({"status_str": word}) if isinstance(word, str) else past.vital("status")
        word, status = state.status("status_str")
        word = word and self._http.redactor(word)
        if status in ("failed", "cancelled"):
            return Observation(status="failed", raw_status=word, failure=self._failure(state), warning=past.warning)
        # Older servers keep no status: then the outputs show the end.
        result = self._result(past.part("outputs") if word else past.vital("outputs"), fileless=status == "succeeded")
        return Observation(status="succeeded", raw_status=word, result=result, warning=past.warning)

    def _failure(self, status: Fields) -> Failure:
        messages = dict(_pairs(status.items("messages")))
        if "execution_interrupted" in messages:
            return Failure(kind="cancelled", message="it was interrupted")
        data = messages.get("execution_error", {})
        message = data.get("exception_message")
        words = " ".join(message.split()) if isinstance(message, str) else "the upstream says 'error'"
        where = f"{data['node_type']}: " if isinstance(data.get("node_type"), str) else ""
        memory = "OutOfMemory" in str(data.get("exception_type"))
        return Failure(kind="upstream", message=self._http.redactor(where + words), retryable=memory)

    def _result(self, outputs: Fields, *, fileless: bool) -> Result:
        """The files that were saved; where there are none, the passing ones, which a restart of ComfyUI clears away.

        Texts that nodes show are the value. A *fileless* workflow may have done its work elsewhere.
        """
        found = list(_files(outputs))
        saved = [file for file in found if file.get("type", "output") == "output"] or found
        kinds = [media_type_of_file(file["filename"]) for file in saved]
        texts = safe(_texts(outputs), self._http.redactor.value)
        return Result(
            urls=tuple(f"{self._http.base_url}/view?{_query(file)}" for file in saved),
            media_types=tuple(kind for kind in kinds if kind is not None) if None not in kinds else (),
            value=texts[0] if len(texts) == 1 else texts or None,
            fileless=fileless and not saved,
        )

    async def _request(
        self, method: str, path: str, tasks: Sequence[str], *, json: Any = None, limit: int | None = None
    ) -> Reply:
        return await self._http.request(
            method, path, json=json, jobs=tuple(tasks), limit=limit, on_exchange=self.on_exchange
        )

    async def _listen(self) -> bool:
        """Read the WebSocket to its end; return whether it sent any text. Pictures are binary, and ignored."""
        received = False
        async with websocket(self._http, f"ws?clientId={self._client}") as socket:
            self._wake(list(self._progress))
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    received = True
                    self._receive(message.data)
        return received

    def _receive(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=_Message)
        except (msgspec.DecodeError, RecursionError):
            return
        task = message.data.get("prompt_id")
        if not isinstance(task, str) or len(task) > TASK_LIMIT:
            return
        progress = self._progress.pop(task, None) or NodeProgress()
        self._progress[task] = progress
        if len(self._progress) > PROGRESS_LIMIT:
            del self._progress[next(iter(self._progress))]
        now = self._clock.monotonic()
        if progress.receive(message.type, message.data) or now >= progress.reported_at + _STEPS_APART:
            progress.reported_at = now
            self._wake([task])

    def _wake(self, tasks: Sequence[str]) -> None:
        if self.on_news is not None:
            for task in tasks:
                self.on_news(task)


def _pairs(messages: list[object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in cast("list[Any]", messages):
        match message:
            case [str(kind), data] | {"type": str(kind), "data": data}:
                yield kind, _fields(data)
            case _:
                pass


def _parts(outputs: Fields) -> Iterator[object]:
    """Each part of what nodes put out, by whatever name they call their lists of them."""
    for node in outputs:
        put_out = outputs[node]
        for parts in _fields(cast(object, put_out)).values() if isinstance(put_out, dict) else (put_out,):
            # Some nodes put out one part alone, and no list of them.
            yield from cast("list[object]", parts) if isinstance(parts, list) else (parts,)


def _files(outputs: Fields) -> Iterator[dict[str, str]]:
    for file in map(_fields, _parts(outputs)):
        named = {key: file[key] for key in ("filename", "subfolder", "type") if isinstance(file.get(key), str)}
        if named.get("filename"):
            yield named


def _texts(outputs: Fields) -> list[str]:
    return [part for part in _parts(outputs) if isinstance(part, str) and part.strip()]


def _query(file: Mapping[str, str]) -> str:
    return urlencode(file, errors="replace")


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
