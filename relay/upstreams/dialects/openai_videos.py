"""The dialect of OpenAI's Videos API, which many gateways speak: `/videos`, whole percent, the file at `/content`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec.structs import replace

from relay.errors import UpstreamError
from relay.jobs.observations import Observation, Result
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, needing, segment
from relay.upstreams.reading.fields import Fields, only
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.values import is_something, read_date, read_percent
from relay.upstreams.settings import Name, PerTaskSettings, Seconds, UpstreamSettings

__all__ = ["OpenAIVideos", "OpenAIVideosSettings"]


class OpenAIVideosSettings(PerTaskSettings, frozen=True, kw_only=True):
    """One account of an API in the dialect of OpenAI's videos."""

    kind: ClassVar[str] = "openai-videos"

    name: Name = kind
    interval: Seconds = 2.5


class OpenAIVideos(PerTaskUpstream):
    """The videos of one account of an API in the dialect of OpenAI's `/v1/videos`.

    *base_url* is what OpenAI's own clients take, such as `https://gateway.example/v1`. *interval*, *deadline* and
    *timeout* are in seconds; at most *concurrency* polls are under way at once. The result is the address that the
    answer names, or that of the video's content, which asks for the same token. The dialect has no way to call a video
    off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = OpenAIVideosSettings
    image_at: str | None = "input_reference.image_url"

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        needing(input, "prompt")

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a video of *input*, the body of `POST /videos` with at least a `prompt`, and return its id.

        Raises UsageError where there is no prompt, UpstreamError where the upstream does not take it.
        """
        return await self._create("videos", needing(input, "prompt"))

    def _path(self, task: str) -> str:
        return f"videos/{segment(task)}"

    def _read(self, task: str, body: dict[str, Any], reply: Reply) -> Observation:
        video = Fields(body)
        word, status = video.status("status")
        code, reason = _error(video["error"])
        if word is None:
            raise UpstreamError(
                "refused", f"the upstream tells of no video: {self._words(reason or code) or 'no status'}"
            )
        # A video that is completed with an error has failed.
        if status == "succeeded" and (is_something(code) or is_something(reason)):
            status = "failed"
        if status == "succeeded":
            return Observation(
                status=status, raw_status=word, result=self._result(task, video, body), warning=video.warning
            )
        failure = self._ended(status, word, reason=reason, code=code, answer=video)
        if failure is not None:
            return Observation(status=status, raw_status=word, failure=failure, warning=video.warning)
        percent, source, raw_percent = read_percent(video["progress"])
        return Observation(
            status=status,
            raw_status=word,
            percent=percent,
            source=source,
            raw_percent=raw_percent,
            poll_after=_poll_after(reply.headers),
            warning=video.warning,
        )

    def _result(self, task: str, video: Fields, body: dict[str, Any]) -> Result:
        """The addresses that a gateway names, as several do beside the dialect; else that of the content."""
        here = self._address(task)
        found = files(anywhere(body, here))
        if not found.urls and found.value is None:
            found = Result(urls=(f"{here}/content",))
        return replace(found, expires=read_date(video["expires_at"]))


def _error(error: object) -> tuple[object, object]:
    """The code of an `error`, and the error itself where it says more."""
    if (found := only(error)) is None:
        return None, error
    fields = Fields(found)
    words = {name: fields[name] for name in fields if name not in ("code", "type", "param")}
    return fields.first("code", "type"), words if is_something(words) else None


def _poll_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `openai-poll-after-ms` asks to wait."""
    wait = headers.get("openai-poll-after-ms", "").strip()
    return int(wait) / 1000 if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
