"""The dialect of Runway's API: `/v1/tasks`, a figure of 0..1 while a task runs, and URLs that expire."""

from collections.abc import Mapping
from typing import Any, Final, cast

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UsageError
from relay.events import Status
from relay.observations import Observation, Result, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, segment
from relay.upstreams.media import is_link, media_types
from relay.upstreams.wire import read_fraction

__all__ = ["Runway"]

_VERSION: Final = "2024-11-06"
_ENDPOINTS: Final = (
    "image_to_video",
    "text_to_video",
    "video_to_video",
    "text_to_image",
    "character_performance",
    "image_upscale",
    "video_upscale",
    "sound_effect",
    "text_to_speech",
    "speech_to_speech",
    "voice_dubbing",
    "voice_isolation",
)
_WORDS: Final[Mapping[str, Status]] = {"THROTTLED": "queued"}


class _Task(Struct, rename="camel"):
    status: str
    progress: Any = None
    output: Any = None
    failure: Any = None
    failure_code: Any = None


class Runway(ItemUpstream):
    """The tasks of one account of Runway's API.

    *base_url* is what Runway's own clients take, such as `https://api.dev.runwayml.com`. *interval*, *deadline* and
    *timeout* are in seconds; Runway asks not to poll a task more than once in 5 s. At most *concurrency* polls are
    under way at once. *version* is the date that `X-Runway-Version` says.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "runway",
        interval: float = 5.0,
        deadline: float = 1500.0,
        timeout: float = 30.0,
        concurrency: int = 8,
        clock: Clock | None = None,
        version: str = _VERSION,
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
            headers={"X-Runway-Version": version},
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of the request, and return its id.

        Its key `endpoint`, which is not sent, says which kind, such as `text_to_video`; without it, a `promptImage`
        makes an `image_to_video`, and else it is a `text_to_video`. Raises UsageError for an unknown endpoint,
        UpstreamError where the upstream does not take it.
        """
        body = dict(input)
        endpoint = body.pop("endpoint", "image_to_video" if "promptImage" in body else "text_to_video")
        if endpoint not in _ENDPOINTS:
            raise UsageError(f"the input has an unknown endpoint {endpoint!r}; known are {', '.join(_ENDPOINTS)}")
        return await self._create(f"v1/{endpoint}", body)

    async def cancel(self, task: str) -> None:
        """Ask Runway to stop *task*. One that has ended meanwhile is deleted, with its files. Raises UpstreamError."""
        await self._request("DELETE", self._path(task), jobs=(task,))

    def _path(self, task: str) -> str:
        return f"v1/tasks/{segment(task)}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        said = self._typed(body, _Task)
        status = _WORDS.get(said.status) or normalised(said.status)
        if status == "succeeded" and (said.failure or said.failure_code):
            status = "failed"
        if status == "succeeded":
            urls = tuple(url for url in _list(said.output) if is_link(url))
            return Observation(
                status=status, raw_status=said.status, result=Result(urls=urls, media_types=media_types(urls))
            )
        failure = self._ended(status, said.status, reason=said.failure, code=said.failure_code)
        if failure is not None:
            return Observation(status=status, raw_status=said.status, failure=failure)
        percent, source, raw_percent = read_fraction(said.progress)
        return Observation(
            status=status, raw_status=said.status, percent=percent, source=source, raw_percent=raw_percent
        )


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
