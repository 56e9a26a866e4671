"""The dialect of OpenAI's Videos API, which many gateways speak: `/videos`, whole percent, the file at `/content`."""

from collections.abc import Mapping
from typing import Any, cast

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UpstreamError
from relay.events import Status
from relay.observations import Observation, Result, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, needing, segment
from relay.upstreams.wire import read_date, read_percent

__all__ = ["OpenAIVideos"]


class _Video(Struct):
    # The figures are read one by one: gateways send what they have, and one odd figure must not cost the status.
    status: str | None = None
    progress: Any = None
    error: Any = None
    expires_at: Any = None


class OpenAIVideos(ItemUpstream):
    """The videos of one account of an API in the dialect of OpenAI's `/v1/videos`.

    *base_url* is what OpenAI's own clients take, such as `https://gateway.example/v1`. *interval*, *deadline* and
    *timeout* are in seconds; at most *concurrency* polls are under way at once. The result is the address of the
    video's content, which asks for the same token. The dialect has no way to call a video off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "openai-videos",
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
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a video of *input*, the body of `POST /videos` with at least a `prompt`, and return its id.

        Raises UsageError where there is no prompt, UpstreamError where the upstream does not take it.
        """
        return await self._create("videos", needing(input, "prompt"))

    def _path(self, task: str) -> str:
        return f"videos/{segment(task)}"

    def _read(self, task: str, body: dict[str, Any], reply: Reply) -> Observation:
        video = self._typed(body, _Video)
        code, reason = _error(video.error)
        if video.status is None:
            raise UpstreamError(
                "refused", f"the upstream tells of no video: {self._words(reason or code) or 'no status'}"
            )
        status = _status(video)
        failure = self._ended(status, video.status, reason=reason, code=code)
        percent, source, raw_percent = read_percent(video.progress)
        if status == "succeeded":
            return Observation(status=status, raw_status=video.status, result=self._result(task, video))
        if failure is not None:
            return Observation(status=status, raw_status=video.status, failure=failure)
        return Observation(
            status=status,
            raw_status=video.status,
            percent=percent,
            source=source,
            raw_percent=raw_percent,
            poll_after=_poll_after(reply.headers),
        )

    def _result(self, task: str, video: _Video) -> Result:
        url = f"{self._http.base_url}/{self._path(task)}/content"
        return Result(urls=(url,), expires=read_date(video.expires_at))


def _status(video: _Video) -> Status:
    """The status, except that what is completed with an error has failed."""
    status = normalised(video.status)
    return "failed" if status == "succeeded" and video.error else status


def _error(error: object) -> tuple[object, object]:
    """The code and the words of an `error`."""
    if not isinstance(error, dict):
        return None, error
    fields = cast("dict[str, object]", error)
    return fields.get("code"), fields.get("message")


def _poll_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `openai-poll-after-ms` asks to wait."""
    wait = headers.get("openai-poll-after-ms", "").strip()
    return int(wait) / 1000 if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
