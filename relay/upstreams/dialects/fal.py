"""The dialect of fal's queue: a state to poll, and the result behind an address of its own."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from relay.clock import Clock
from relay.errors import UpstreamError, UsageError
from relay.observations import Answer, Failure, Observation, normalised
from relay.upstreams.base import News
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, as_object
from relay.upstreams.listening import NotServedError, server_sent
from relay.upstreams.media import is_link
from relay.upstreams.outputs import files, links
from relay.upstreams.wire import read_count

__all__ = ["Fal"]

STREAMS: Final = 32
"""How many tasks have their status streamed at once: each holds a connection."""

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODEL: Final = re.compile(rf"{_NAME}(?:/{_NAME})+")

# A request is below its application, without the path within that; only these applications are one level deeper.
_REQUEST: Final = re.compile(rf"(?:(?:workflows|comfy)/)?{_NAME}/{_NAME}/requests/{_NAME}")
_APPLICATION: Final = re.compile(rf"(?:(?:workflows|comfy)/)?{_NAME}/{_NAME}")

_NOT_RETRYABLE: Final = frozenset({"bad_request", "client_cancelled"})
_OF_THE_MODEL: Final = (400, 422)


class _Status(Struct):
    status: str
    queue_position: Any = None
    logs: Any = None
    error: Any = None
    error_type: Any = None


class Fal(ItemUpstream):
    """The requests of one account in fal's queue.

    A task is what an address holds behind the host, `fal-ai/fast-sdxl/requests/80e732af...`; with a *model*, a request
    id alone is one of that model. *base_url* is `https://queue.fal.run`. *interval*, *deadline* and *timeout* are in
    seconds. At most *concurrency* polls are under way at once. A result is every `url` in what the model put out.

    With *stream*, up to STREAMS tasks have their status streamed, and one whose status changes is polled at once. Where
    fal does not serve that, polling goes on alone.

    Raises UsageError where *base_url*, *token* or *model* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "fal",
        model: str | None = None,
        stream: bool = False,
        interval: float = 2.5,
        deadline: float = 1500.0,
        timeout: float = 30.0,
        concurrency: int = 8,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            base_url,
            token,
            name=name,
            interval=interval,
            deadline=deadline,
            timeout=timeout,
            concurrency=concurrency,
            clock=clock,
            scheme="Key",
        )
        self.on_news: News | None = None
        self._model = None if model is None else _checked(model)
        self._stream = stream
        self._streams: dict[str, asyncio.Task[None]] = {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        streams = list(self._streams.values())
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Put a request of *input*, the body of the request, into the queue and return its task id.

        Two of its keys are not sent: `model` says of which model, and may be left out where the upstream has one;
        `fal_webhook` is an address that fal calls at the end. Raises UsageError where there is no model or no such
        address, UpstreamError where the upstream does not take it.
        """
        body = dict(input)
        model = body.pop("model", self._model)
        if model is None:
            raise UsageError("the input needs the key 'model', such as fal-ai/fast-sdxl")
        path = _checked(model)
        if (called := body.pop("fal_webhook", None)) is not None:
            if not is_link(called):
                raise UsageError("the key 'fal_webhook' of the input is an http or https address")
            path += f"?fal_webhook={quote(called, safe='')}"
        return _task(await self._create(path, body, key="response_url"))

    async def cancel(self, task: str) -> None:
        """Ask fal to stop *task*. Raises UpstreamError, also for a request that is completed."""
        await self._request("PUT", f"{self._request_path(task)}/cancel", jobs=(task,))

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the models of completed *tasks* put out; a task that is not completed is left out.

        Raises UpstreamError as `observe` does.
        """
        return await self._each(tasks, self._fetched)

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.CallsBack`."""
        return {"fal_webhook": url, **input}

    def _request_path(self, task: str) -> str:
        if "/" not in task and self._model is not None and (application := _APPLICATION.match(self._model)):
            task = f"{application[0]}/requests/{task}"
        if not _REQUEST.fullmatch(task):
            raise UpstreamError("not-found", f"{task!r} is not of the form owner/model/requests/id")
        return task

    def _path(self, task: str) -> str:
        return f"{self._request_path(task)}/status?logs=1"

    def _listen(self, task: str, said: _Status) -> None:
        """Open the stream of *task*, whose status is *said*, unless it is open or there are enough."""
        if self._stream and self.on_news is not None and task not in self._streams and len(self._streams) < STREAMS:
            stream = asyncio.create_task(self._hear(task, said, self.on_news), name=f"stream of {task}")
            self._streams[task] = stream
            stream.add_done_callback(lambda _: self._streams.pop(task, None))

    async def _hear(self, task: str, known: _Status, tell: News) -> None:
        """Tell of each change of status until the stream ends or nobody follows *task*. The next poll opens another."""
        try:
            async with aclosing(server_sent(self._http, f"{self._request_path(task)}/status/stream")) as stream:
                async for data in stream:
                    said = msgspec.json.decode(data, type=_Status)
                    if (said.status, said.queue_position) != (known.status, known.queue_position) and not tell(task):
                        return
                    known = said
        except NotServedError:
            self._stream = False
        except (aiohttp.ClientError, OSError, UpstreamError, ValueError, msgspec.MsgspecError):
            pass

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        said = self._typed(body, _Status)
        status = normalised(said.status)
        if status not in ("succeeded", "failed", "cancelled"):
            self._listen(task, said)
        log = tuple(self._words(line) for line in _messages(said.logs))
        if status == "succeeded" and (said.error or said.error_type):
            return Observation(
                status="failed", raw_status=said.status, log=log, log_offset=0, failure=self._failure(said)
            )
        return Observation(
            status=status,
            raw_status=said.status,
            queue_position=read_count(said.queue_position) if status == "queued" else None,
            log=log,
            log_offset=0,
            failure=self._ended(status, said.status, reason=said.error, code=said.error_type),
        )

    def _failure(self, said: _Status) -> Failure | None:
        if said.error_type == "client_cancelled":
            return self._ended("cancelled", said.status, reason=said.error, code=said.error_type)
        failure = self._ended("failed", said.status, reason=said.error, code=said.error_type)
        if failure is not None and said.error_type in _NOT_RETRYABLE:
            return Failure(kind=failure.kind, message=failure.message)
        return failure

    async def _fetched(self, task: str) -> Observation | None:
        reply = await self._request("GET", self._request_path(task), jobs=(task,), answers=_OF_THE_MODEL)
        if reply.status == 202:
            return None
        body = reply.json()
        if reply.status in _OF_THE_MODEL:
            return self._declined(as_object(body).get("detail"))
        return Observation(status="succeeded", raw_status="COMPLETED", result=files(links(body, "url") or links(body)))

    def _declined(self, detail: Any) -> Observation | None:
        """What it means that a model answered with an error; *detail* is a text, or a list as FastAPI makes them."""
        first = cast("list[object]", detail)[0] if isinstance(detail, list) and detail else None
        fields = cast("dict[str, object]", first) if isinstance(first, dict) else {}
        reason: Any = fields.get("msg", cast(Any, detail))
        if isinstance(reason, str) and "still in progress" in reason:
            return None
        ended = self._ended("failed", "COMPLETED", reason=reason, code=fields.get("type"))
        failure = None if ended is None else Failure(kind=ended.kind, message=ended.message)
        return Observation(status="failed", raw_status="COMPLETED", failure=failure)


def _messages(logs: object) -> list[str]:
    """The lines of a list of log messages; a message may have several."""
    entries = cast("list[object]", logs) if isinstance(logs, list) else []
    messages = [
        cast("dict[str, object]", entry).get("message") if isinstance(entry, dict) else entry for entry in entries
    ]
    return [line for message in messages if isinstance(message, str) for line in message.splitlines()]


def _task(address: str) -> str:
    """The task that *address* leads to. Its host is not ours to trust: only the path's end is kept."""
    try:
        path = urlsplit(address).path
    except ValueError:
        path = ""
    found = re.search(rf"{_REQUEST.pattern}$", path)
    if found is None:
        raise UpstreamError("malformed", "the request may be in the queue, but the answer names no address of it")
    return found[0]


def _checked(model: object) -> str:
    if not isinstance(model, str) or not _MODEL.fullmatch(model):
        raise UsageError("a model is of the form owner/name, such as fal-ai/fast-sdxl")
    return model
