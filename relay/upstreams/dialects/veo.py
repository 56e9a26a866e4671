"""The dialect of Google's long-running operations, as the Gemini API runs Veo with them."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from msgspec.structs import replace

from relay.errors import UpstreamError, UsageError
from relay.events import FailureKind, Status
from relay.jobs.observations import Failure, Observation
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream
from relay.upstreams.reading.fields import Fields, only
from relay.upstreams.reading.links import anywhere, files, safe
from relay.upstreams.reading.values import is_something, read_count
from relay.upstreams.settings import Name, PerTaskSettings, Seconds, UpstreamSettings

__all__ = ["Veo", "VeoSettings"]

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODEL: Final = re.compile(rf"(?:models/)?({_NAME})")
_OPERATION: Final = re.compile(rf"(?:{_NAME}/)*operations/{_NAME}")

# google.rpc.Code, as far as one of them means more than "it failed".
_CANCELLED: Final = 1
_KINDS: Final[Mapping[int, FailureKind]] = {
    4: "timeout",
    5: "not-found",
    7: "auth",
    8: "rate-limit",
    16: "auth",
}
_RETRYABLE: Final = frozenset({4, 8, 10, 13, 14})

# Prompts and images are refused with INVALID_ARGUMENT, as a mistyped parameter is; only the words distinguish them.
_POLICY: Final = re.compile(r"responsible ai|usage guidelines|safety|content polic", re.IGNORECASE)


class VeoSettings(PerTaskSettings, frozen=True, kw_only=True):
    """One key of the Gemini API."""

    kind: ClassVar[str] = "veo"

    name: Name = kind
    interval: Seconds = 10.0


class Veo(PerTaskUpstream):
    """The video operations of one key of the Gemini API.

    A task is the name of an operation, `models/veo-3.0-generate-001/operations/abc`. *base_url* has the version in its
    path: `https://generativelanguage.googleapis.com/v1beta`. *interval*, *deadline* and *timeout* are in seconds. At
    most *concurrency* polls are under way at once. An operation has no figure of progress, and cannot be called off.
    The addresses of its videos are only answered to those who send the key.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = VeoSettings
    auth_scheme = ""
    auth_header = "x-goog-api-key"

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _request(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Begin an operation of *input*, the body of the request: `instances` and `parameters`. Return its name.

        Its key `model`, which is not sent, says of which model; a `prompt` stands for instances of that alone. Raises
        UsageError where the model or the instances are missing, UpstreamError where the upstream does not take it.
        """
        model, body = _request(input)
        name = await self._create(f"models/{model}:predictLongRunning", body, key="name")
        if not _OPERATION.fullmatch(name):
            raise UpstreamError("malformed", "the operation may have begun, but the answer does not name it")
        return name

    _marks = ("name", "done", "error")

    def _path(self, task: str) -> str:
        if not _OPERATION.fullmatch(task):
            raise UpstreamError("not-found", f"{task!r} is not the name of an operation")
        return task

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        operation = Fields(body)
        done = operation.flag("done")
        error = operation["error"]
        if is_something(error) or (isinstance(error, dict) and not operation["response"]):
            reason = cast(object, error)
            failure = self._failed(only(reason) or {"message": reason})
            status: Status = "cancelled" if failure.kind == "cancelled" else "failed"
            return Observation(status=status, failure=failure, warning=operation.warning)
        if done is None and operation["done"] is not None:
            raise operation.unlike("true or false", "done")
        if not done:
            return Observation(status="running", warning=operation.warning)
        return self._ready(operation, self._address(task))

    def _failed(self, error: Mapping[str, object]) -> Failure:
        code = read_count(error.get("code"))
        message = (
            self._words(error.get("message"))
            or f"the upstream gives no reason, and {'no code' if code is None else f'code {code}'}"
        )
        if code == _CANCELLED:
            return Failure(kind="cancelled", message=message)
        if _POLICY.search(message):
            return Failure(kind="policy", message=message)
        return Failure(kind=_KINDS.get(code or 0, "upstream"), message=message, retryable=code in _RETRYABLE)

    def _ready(self, operation: Fields, here: str) -> Observation:
        """The videos, or the reason for none: an operation whose videos were all filtered ends without an error."""
        response = operation.part("response")
        videos = response.part("generateVideoResponse")
        samples = [sample.part("video") for sample in videos.objects("generatedSamples")]
        found = [url for video in samples if (url := video.address("uri", here)) is not None]
        result = files(found or anywhere(response.all, here))
        reasons = [reason for reason in videos.items("raiMediaFilteredReasons") if isinstance(reason, str)]
        count = read_count(videos["raiMediaFilteredCount"]) or len(reasons)
        withheld = f"{count} {'video was' if count == 1 else 'videos were'} withheld by the rules on content"
        words = f"{withheld}: {self._words(' '.join(reasons))}" if reasons else withheld
        if result.value is None and len(result.urls) < max(1, sum(map(bool, samples))):
            # Videos that come as bytes or lie in a bucket have no address, and another operation has no videos.
            result = replace(result, value=self._other(response))
        if count and not result.urls and result.value is None:
            failure = Failure(kind="policy", message=words)
            return Observation(status="failed", failure=failure, warning=operation.warning)
        log = (words,) if count else ()
        return Observation(status="succeeded", log=log, result=result, warning=operation.warning)

    def _other(self, response: Fields) -> Any:
        """What *response* holds besides the addresses of videos, None for nothing."""
        extra = {name: response[name] for name in response if name not in ("@type", "generateVideoResponse")}
        videos = response.part("generateVideoResponse")
        extra |= {name: videos[name] for name in videos if not name.startswith("raiMediaFiltered")}
        return safe(extra, self._http.redactor.value) if any(extra.values()) else None


def _request(input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model and the body of the request that submits *input*. Raises UsageError."""
    body = dict(input)
    model = _MODEL.fullmatch(str(body.pop("model", "")))
    if model is None:
        raise UsageError("the input needs the key 'model', such as veo-3.0-generate-001")
    if "prompt" in body:
        body.setdefault("instances", [{"prompt": body.pop("prompt")}])
    if "instances" not in body:
        raise UsageError("the input needs the key 'prompt' or 'instances'")
    return model[1], body
