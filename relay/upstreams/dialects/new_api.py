"""The dialect of the gateway new-api: tasks at `/video/generations`, progress as text such as "30%"."""

from collections.abc import Mapping
from typing import Any, ClassVar

from relay.errors import ErrorKind, UpstreamError
from relay.jobs.observations import Observation, Result
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, needing, segment
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.media import is_link
from relay.upstreams.reading.values import is_something, read_percent
from relay.upstreams.settings import Name, PerTaskSettings, UpstreamSettings

__all__ = ["NewApi", "NewApiSettings"]

_UNKNOWN_TASK = "task_not_exist"


class NewApiSettings(PerTaskSettings, frozen=True, kw_only=True):
    """One account of a new-api gateway."""

    kind: ClassVar[str] = "new-api"

    name: Name = kind


class NewApi(PerTaskUpstream):
    """The video tasks of one account of a new-api gateway.

    *base_url* has the version in it, such as `https://gateway.example/v1`. *interval*, *deadline* and *timeout* are in
    seconds; at most *concurrency* polls are under way at once. The gateway asks its own upstreams about every 15 s, and
    has no way to call a task off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = NewApiSettings
    image_at: str | None = "image"

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        needing(input, "model", "prompt")

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of `POST /video/generations` with a `model` and a `prompt`; return its id.

        Raises UsageError where one of them is missing, UpstreamError where the gateway does not take it.
        """
        return await self._create("video/generations", needing(input, "model", "prompt"), key="task_id")

    _marks = ("data", "code", "status")

    def _path(self, task: str) -> str:
        return f"video/generations/{segment(task)}"

    def _about(self, error: UpstreamError) -> UpstreamError:
        # The gateway says so with status 400.
        if error.kind == "refused" and _UNKNOWN_TASK in error.message:
            return UpstreamError("not-found", error.message)
        return error

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        envelope = Fields(body)
        data = envelope.about("status") or envelope.vital("data")
        word, status = data.status("status")
        if word is None:
            words = self._words(envelope["message"]) or self._words(envelope["code"]) or "no status"
            kind: ErrorKind = "not-found" if envelope["code"] == _UNKNOWN_TASK else "refused"
            raise UpstreamError(kind, f"the upstream tells of no task: {words}")
        # Tasks that the gateway asks its own upstream for at once come in a shorter form, with `url` and `error`.
        reason = data.first("fail_reason", "error")
        if status == "succeeded" and is_something(data["error"]):
            status = "failed"
        result = self._result(data, self._address(task)) if status == "succeeded" else None
        failure = self._ended(status, word, reason=reason, answer=data)
        # A task that failed says 100% too.
        percent, source, raw = (None, None, None) if result or failure else read_percent(data["progress"])
        return Observation(
            status=status,
            raw_status=word,
            percent=percent,
            source=source,
            raw_percent=raw,
            result=result,
            failure=failure,
            warning=envelope.warning,
        )

    def _result(self, data: Fields, here: str) -> Result:
        """The file, and one only: older tasks have its URL where the reason of a failure would be."""
        found = (data.address(name, here) for name in ("result_url", "url"))
        reason = data["fail_reason"]
        if (url := next(filter(None, found), reason if is_link(reason) else None)) is not None:
            return files([url])
        return files(anywhere(data.all, here))
