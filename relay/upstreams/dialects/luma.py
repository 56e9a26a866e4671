"""The dialect of Luma's Dream Machine: `/generations`, no figures, one asset that counts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.jobs.observations import Observation, Result
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, needing, segment
from relay.upstreams.reading.fields import Fields, only
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.values import is_something
from relay.upstreams.settings import Name, UpstreamSettings, WebhookUpstreamSettings

__all__ = ["Luma", "LumaSettings"]

_WORDS: Final[Mapping[str, Status]] = {"dreaming": "running"}


class LumaSettings(WebhookUpstreamSettings, frozen=True, kw_only=True):
    """One account of Luma's Dream Machine."""

    kind: ClassVar[str] = "luma"

    name: Name = kind


class Luma(PerTaskUpstream):
    """The generations of one account of Luma's Dream Machine.

    *base_url* is what Luma's own clients take, such as `https://api.lumalabs.ai/dream-machine/v1`. *interval*,
    *deadline* and *timeout* are in seconds; at most *concurrency* polls are under way at once. The dialect has no
    percent, and cannot cancel a generation: deleting is for generations that have ended.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = LumaSettings

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _kind(input)
        needing(input, "model")

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a generation of *input*, the body of the request with at least a `model`, and return its id.

        `generation_type` says whether it is a `video`, which it is without it, or an `image`. Raises UsageError where
        it is neither or there is no model, UpstreamError where the upstream does not take it.
        """
        return await self._create(f"generations/{_kind(input)}", needing(input, "model"))

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.AcceptsWebhook`."""
        return {"callback_url": url, **input}

    _marks = ("state", "status")

    def _path(self, task: str) -> str:
        return f"generations/{segment(task)}"

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        answer = Fields(body)
        word, status = answer.status("status" if answer["state"] is None else "state", _WORDS)
        reason = answer["failure_reason"]
        if word is None:
            words = self._words(reason) or self._words(answer["detail"]) or "no state"
            raise UpstreamError("refused", f"the upstream tells of no generation: {words}")
        if status == "succeeded" and is_something(reason):
            status = "failed"
        failure = self._ended(status, word, reason=reason, answer=answer)
        result = _files(answer, self._address(task)) if status == "succeeded" else None
        if result is None or not result.urls:
            answer.part("assets")
        return Observation(status=status, raw_status=word, result=result, failure=failure, warning=answer.warning)


def _files(answer: Fields, here: str) -> Result:
    """The video and the image; the progress video beside them shows how they came about, and is no result."""
    made = answer.part("assets") if only(answer["assets"]) is not None else answer
    addresses = [made.address(name, here) for name in ("video", "image") if isinstance(made[name], str)]
    return files([url for url in addresses if url is not None] or anywhere(answer.all, here))


def _kind(input: Mapping[str, Any]) -> str:
    kind = input.get("generation_type", "video")
    if kind not in ("video", "image"):
        raise UsageError(f"the input has an unknown generation_type {kind!r}; known are video, image")
    return str(kind)
