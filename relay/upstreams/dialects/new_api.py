"""The dialect of the gateway new-api: tasks at `/video/generations`, progress as text such as "30%"."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UpstreamError
from relay.events import Status
from relay.observations import Observation, Result, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, needing, segment
from relay.upstreams.media import is_link, media_types
from relay.upstreams.wire import read_percent

__all__ = ["NewApi"]

_UNKNOWN_TASK = "task_not_exist"


class _Task(Struct):
    status: str | None = None
    progress: Any = None
    fail_reason: Any = None
    result_url: Any = None
    # Tasks that the gateway asks its own upstream for at once come in a shorter form, with these two.
    url: Any = None
    error: Any = None


class _Envelope(Struct):
    code: str | int | None = None
    message: Any = None
    data: _Task | None = None


class NewApi(ItemUpstream):
    """The video tasks of one account of a new-api gateway.

    *base_url* has the version in it, such as `https://gateway.example/v1`. *interval*, *deadline* and *timeout* are in
    seconds; at most *concurrency* polls are under way at once. The gateway asks its own upstreams about every 15 s, and
    has no way to call a task off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "new-api",
        interval: float = 5.0,
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
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of `POST /video/generations` with a `model` and a `prompt`; return its id.

        Raises UsageError where one of them is missing, UpstreamError where the gateway does not take it.
        """
        return await self._create("video/generations", needing(input, "model", "prompt"), key="task_id")

    def _path(self, task: str) -> str:
        return f"video/generations/{segment(task)}"

    def _about(self, error: UpstreamError) -> UpstreamError:
        # The gateway says so with status 400.
        if error.kind == "refused" and _UNKNOWN_TASK in error.message:
            return UpstreamError("not-found", error.message)
        return error

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        envelope = self._typed(body, _Envelope)
        if envelope.code not in ("success", None) or envelope.data is None or envelope.data.status is None:
            said = self._words(envelope.message) or self._words(envelope.code) or "no status"
            raise UpstreamError("refused", f"the upstream tells of no task: {said}")
        data = envelope.data
        status = _status(data)
        if status == "succeeded":
            # Older tasks have their URL where the reason of a failure would be, and failed ones the other way round.
            urls = [url for url in (data.result_url, data.url, data.fail_reason) if is_link(url)][:1]
            result = Result(urls=tuple(urls), media_types=media_types(urls))
            return Observation(status=status, raw_status=data.status, result=result)
        if (failure := self._ended(status, data.status, reason=data.fail_reason or data.error)) is not None:
            # A task that failed says 100% too.
            return Observation(status=status, raw_status=data.status, failure=failure)
        percent, source, raw_percent = read_percent(data.progress)
        return Observation(
            status=status, raw_status=data.status, percent=percent, source=source, raw_percent=raw_percent
        )


def _status(task: _Task) -> Status:
    status = normalised(task.status)
    return "failed" if status == "succeeded" and task.error else status
