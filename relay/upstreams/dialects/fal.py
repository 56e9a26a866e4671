"""The dialect of fal's queue: a state to poll, and the result behind an address of its own."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Annotated, Any, ClassVar, Final, Unpack, cast
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from msgspec import Meta, Struct

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Answer, Failure, Observation
from relay.supervision.supervisor import Supervise, unsupervised
from relay.upstreams.base import News
from relay.upstreams.http.client import Token
from relay.upstreams.http.push import NotServedError, server_sent
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskOptions, PerTaskUpstream, as_object
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import links, output
from relay.upstreams.reading.media import is_link
from relay.upstreams.reading.values import is_something, read_count
from relay.upstreams.settings import Flag, Name, Seconds, UpstreamSettings, WebhookUpstreamSettings

__all__ = ["Fal", "FalSettings"]

STREAMS: Final = 32
"""How many tasks have their status streamed at once: each holds a connection."""

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODEL: Final = re.compile(rf"{_NAME}(?:/{_NAME})+")

# A request is below its application, without the path within that; only these applications are one level deeper.
_REQUEST: Final = re.compile(rf"(?:(?:workflows|comfy)/)?{_NAME}/{_NAME}/requests/{_NAME}")
_APPLICATION: Final = re.compile(rf"(?:(?:workflows|comfy)/)?{_NAME}/{_NAME}")

_ModelName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$", description="a model such as fal-ai/fast-sdxl")
]

_NOT_RETRYABLE: Final = frozenset({"bad_request", "client_cancelled"})
_OF_THE_MODEL: Final = (400, 422)


class _Status(Struct):
    """What a stream says of a status: whatever else it holds is polled."""

    status: str
    queue_position: Any = None


class FalSettings(WebhookUpstreamSettings, frozen=True, kw_only=True):
    """One account in fal's queue. With a *model*, a request id alone is one of that model."""

    kind: ClassVar[str] = "fal"

    name: Name = kind
    interval: Seconds = 2.5
    model: _ModelName | None = None
    stream: Flag = False


class Fal(PerTaskUpstream):
    """The requests of one account in fal's queue.

    A task is what an address holds behind the host, `fal-ai/fast-sdxl/requests/80e732af...`; with a *model*, a request
    id alone is one of that model. *base_url* is `https://queue.fal.run`. *interval*, *deadline* and *timeout* are in
    seconds. At most *concurrency* polls are under way at once. A result is every `url` in what the
    model put out, and that itself where it is more than addresses.

    With *stream*, up to STREAMS tasks have their status streamed, and one whose status changes is polled at once. Where
    fal does not serve that, polling goes on alone.

    Raises UsageError where *base_url*, *token* or *model* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = FalSettings
    image_at: str | None = "image_url"
    auth_scheme = "Key"

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        model: str | None = None,
        stream: bool = False,
        **options: Unpack[PerTaskOptions],
    ) -> None:
        super().__init__(base_url, token, **options)
        self.on_news: News | None = None
        self._model = None if model is None else _checked(model)
        self._stream = stream
        self.supervise: Supervise = unsupervised
        self._streams: dict[str, asyncio.Task[None]] = {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        streams = list(self._streams.values())
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        self._submission(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Put a request of *input*, the body of the request, into the queue and return its task id.

        Two of its keys are not sent: `model` says of which model, and may be left out where the upstream has one;
        `fal_webhook` is an address that fal calls at the end. Raises UsageError where there is no model or no such
        address, UpstreamError where the upstream does not take it.
        """
        path, body = self._submission(input)
        return _task(await self._create(path, body, key="response_url"))

    def _submission(self, input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The path and the body of the request that submits *input*. Raises UsageError."""
        body = dict(input)
        model = body.pop("model", self._model)
        if model is None:
            raise UsageError("the input needs the key 'model', such as fal-ai/fast-sdxl")
        path = _checked(model)
        if (called := body.pop("fal_webhook", None)) is not None:
            if not is_link(called):
                raise UsageError("the key 'fal_webhook' of the input is an http or https address")
            path += f"?fal_webhook={quote(called, safe='')}"
        return path, body

    async def cancel(self, task: str) -> None:
        """Ask fal to stop *task*. Raises UpstreamError, also for a request that is completed."""
        await self._request("PUT", f"{self._request_path(task)}/cancel", jobs=(task,))

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the models of completed *tasks* put out; a task that is not completed is left out.

        Raises UpstreamError as `observe` does.
        """
        return await self._each(tasks, self._fetched)

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.AcceptsWebhook`."""
        return {"fal_webhook": url, **input}

    def _request_path(self, task: str) -> str:
        if "/" not in task and self._model is not None and (application := _APPLICATION.match(self._model)):
            task = f"{application[0]}/requests/{task}"
        if not _REQUEST.fullmatch(task):
            raise UpstreamError("not-found", f"{task!r} is not of the form owner/model/requests/id")
        return task

    def _path(self, task: str) -> str:
        return f"{self._request_path(task)}/status?logs=1"

    def _listen(self, task: str, known: _Status) -> None:
        """Open the stream of *task*, given its present status, unless it is open or there are enough."""
        if self._stream and self.on_news is not None and task not in self._streams and len(self._streams) < STREAMS:
            stream = self.supervise(f"the stream of {task}", partial(self._follow, task, known, self.on_news))
            self._streams[task] = stream
            stream.add_done_callback(lambda _: self._streams.pop(task, None))

    async def _follow(self, task: str, known: _Status, report: News) -> None:
        """Report each change of status until the stream ends or no job follows *task*. The next poll opens another."""
        try:
            async with aclosing(server_sent(self._http, f"{self._request_path(task)}/status/stream")) as stream:
                async for data in stream:
                    status = msgspec.json.decode(data, type=_Status)
                    if status != known and not report(task):
                        return
                    known = status
        except NotServedError:
            self._stream = False
        except (aiohttp.ClientError, OSError, UpstreamError, ValueError, msgspec.MsgspecError):
            pass

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        answer = Fields(body)
        word, status = answer.status("status")
        if word is None:
            raise answer.unlike("a text", "status")
        error, code = answer["error"], answer["error_type"]
        if status not in ("succeeded", "failed", "cancelled"):
            self._listen(task, _Status(word, answer["queue_position"]))
        log = tuple(self._words(line) for line in _messages(answer.items("logs")))
        if status == "succeeded" and (is_something(error) or is_something(code)):
            status, failure = "failed", self._failure(word, error, code)
        else:
            failure = self._ended(status, word, reason=error, code=code, answer=answer)
        return Observation(
            status=status,
            raw_status=word,
            queue_position=read_count(answer["queue_position"]) if status == "queued" else None,
            log=log,
            log_offset=0,
            failure=failure,
            warning=answer.warning,
        )

    def _failure(self, word: str, error: object, code: object) -> Failure | None:
        if code == "client_cancelled":
            return self._ended("cancelled", word, reason=error, code=code)
        failure = self._ended("failed", word, reason=error, code=code)
        if failure is not None and isinstance(code, str) and code in _NOT_RETRYABLE:
            return Failure(kind=failure.kind, message=failure.message)
        return failure

    async def _fetched(self, task: str) -> Observation | None:
        reply = await self._request("GET", self._request_path(task), jobs=(task,), answers=_OF_THE_MODEL)
        if reply.status == 202:
            return None
        body = reply.json()
        if reply.status in _OF_THE_MODEL:
            return self._declined(as_object(body).get("detail"))
        here = f"{self._http.base_url}/{self._request_path(task)}"
        made = output(body, links(body, "url", here) or links(body), self._http.redactor.value)
        return Observation(status="succeeded", raw_status="COMPLETED", result=made)

    def _declined(self, detail: Any) -> Observation | None:
        """The meaning of an error that a model answered; *detail* is a text, or a list as FastAPI makes them."""
        first = cast("list[object]", detail)[0] if isinstance(detail, list) and detail else None
        fields = cast("dict[str, object]", first) if isinstance(first, dict) else {}
        reason: Any = fields.get("msg", cast(Any, detail))
        if isinstance(reason, str) and "still in progress" in reason:
            return None
        ended = self._ended("failed", "COMPLETED", reason=reason, code=fields.get("type"))
        failure = None if ended is None else Failure(kind=ended.kind, message=ended.message)
        return Observation(status="failed", raw_status="COMPLETED", failure=failure)


def _messages(entries: list[object]) -> list[str]:
    """The lines of a list of log messages; a message may have several."""
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
