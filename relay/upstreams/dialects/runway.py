"""The dialect of Runway's API: `/v1/tasks`, a figure of 0..1 while a task runs, and URLs that expire."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Unpack

from relay.errors import UsageError
from relay.events import Status
from relay.jobs.observations import Observation, Result
from relay.upstreams.http.client import Token
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskOptions, PerTaskUpstream, segment
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.values import is_something, read_fraction
from relay.upstreams.settings import Name, PerTaskSettings, UpstreamSettings

__all__ = ["Runway", "RunwaySettings"]

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
_WORDS: Final[Mapping[str, Status]] = {"throttled": "queued"}


class RunwaySettings(PerTaskSettings, frozen=True, kw_only=True):
    """One account of Runway's API."""

    kind: ClassVar[str] = "runway"

    name: Name = kind


class Runway(PerTaskUpstream):
    """The tasks of one account of Runway's API.

    *base_url* is what Runway's own clients take, such as `https://api.dev.runwayml.com`. *interval*, *deadline* and
    *timeout* are in seconds; Runway asks not to poll a task more than once in 5 s. At most *concurrency* polls are
    under way at once. *version* is the date that `X-Runway-Version` says.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = RunwaySettings
    prompt_at: str = "promptText"
    image_at: str | None = "promptImage"

    def __init__(
        self, base_url: str, token: Token, *, version: str = _VERSION, **options: Unpack[PerTaskOptions]
    ) -> None:
        super().__init__(base_url, token, headers={"X-Runway-Version": version}, **options)

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _request(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of the request, and return its id.

        Its key `endpoint`, which is not sent, says which kind, such as `text_to_video`; without it, a `promptImage`
        makes an `image_to_video`, and else it is a `text_to_video`. Raises UsageError for an unknown endpoint,
        UpstreamError where the upstream does not take it.
        """
        endpoint, body = _request(input)
        return await self._create(f"v1/{endpoint}", body)

    async def cancel(self, task: str) -> None:
        """Ask Runway to stop *task*. One that has ended meanwhile is deleted, with its files. Raises UpstreamError."""
        await self._request("DELETE", self._path(task), jobs=(task,))

    def _path(self, task: str) -> str:
        return f"v1/tasks/{segment(task)}"

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        answer = Fields(body)
        word, status = answer.status("status", _WORDS)
        if word is None:
            raise answer.unlike("a text", "status")
        reason, code = answer["failure"], answer["failureCode"]
        if status == "succeeded" and (is_something(reason) or is_something(code)):
            status = "failed"
        failure = self._ended(status, word, reason=reason, code=code, answer=answer)
        result = _files(answer, self._address(task)) if status == "succeeded" else None
        percent, source, raw = (None, None, None) if result or failure else read_fraction(answer["progress"])
        return Observation(
            status=status,
            raw_status=word,
            percent=percent,
            source=source,
            raw_percent=raw,
            result=result,
            failure=failure,
            warning=answer.warning,
        )


def _files(answer: Fields, here: str) -> Result:
    """The addresses in the output, which is a list of them; where there is none, any address of a result."""
    found = anywhere({"output": answer["output"]}, here) or anywhere(answer.all, here)
    return files(found or answer.addresses("output", here))


def _request(input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body of the request that submits *input*. Raises UsageError."""
    body = dict(input)
    endpoint = body.pop("endpoint", "image_to_video" if "promptImage" in body else "text_to_video")
    if endpoint not in _ENDPOINTS:
        raise UsageError(f"the input has an unknown endpoint {endpoint!r}; known are {', '.join(_ENDPOINTS)}")
    return str(endpoint), body
