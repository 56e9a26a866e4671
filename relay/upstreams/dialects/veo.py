"""The dialect of Google's long-running operations, as the Gemini API runs Veo with them."""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UpstreamError, UsageError
from relay.events import FailureKind
from relay.observations import Failure, Observation
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream
from relay.upstreams.outputs import files
from relay.upstreams.wire import read_count

__all__ = ["Veo"]

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

# Prompts and images are refused with INVALID_ARGUMENT, as a mistyped parameter is; only the words tell them apart.
_POLICY: Final = re.compile(r"responsible ai|usage guidelines|safety|content polic", re.IGNORECASE)


class _Status(Struct):
    code: Any = None
    message: Any = None


class _Video(Struct):
    uri: str | None = None


class _Sample(Struct):
    video: _Video | None = None


class _Videos(Struct, rename="camel"):
    generated_samples: list[_Sample] | None = None
    rai_media_filtered_count: Any = None
    rai_media_filtered_reasons: list[str] | None = None


class _Response(Struct, rename="camel"):
    generate_video_response: _Videos | None = None


class _Operation(Struct):
    done: bool | None = None
    error: _Status | None = None
    response: _Response | None = None


class Veo(ItemUpstream):
    """The video operations of one key of the Gemini API.

    A task is the name of an operation, `models/veo-3.0-generate-001/operations/abc`. *base_url* has the version in its
    path: `https://generativelanguage.googleapis.com/v1beta`. *interval*, *deadline* and *timeout* are in seconds. At
    most *concurrency* polls are under way at once. An operation has no figure of progress, and cannot be called off.
    The addresses of its videos are only answered to those who send the key.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "veo",
        interval: float = 10.0,
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
            scheme="",
            header="x-goog-api-key",
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Begin an operation of *input*, the body of the request: `instances` and `parameters`. Return its name.

        Its key `model`, which is not sent, says of which model; a `prompt` stands for instances of that alone. Raises
        UsageError where the model or the instances are missing, UpstreamError where the upstream does not take it.
        """
        body = dict(input)
        model = _MODEL.fullmatch(str(body.pop("model", "")))
        if model is None:
            raise UsageError("the input needs the key 'model', such as veo-3.0-generate-001")
        if "prompt" in body:
            body.setdefault("instances", [{"prompt": body.pop("prompt")}])
        if "instances" not in body:
            raise UsageError("the input needs the key 'prompt' or 'instances'")
        name = await self._create(f"models/{model[1]}:predictLongRunning", body, key="name")
        if not _OPERATION.fullmatch(name):
            raise UpstreamError("malformed", "the operation may have begun, but the answer does not name it")
        return name

    def _path(self, task: str) -> str:
        if not _OPERATION.fullmatch(task):
            raise UpstreamError("not-found", f"{task!r} is not the name of an operation")
        return task

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        operation = self._typed(body, _Operation)
        if operation.error is not None:
            failure = self._failed(operation.error)
            return Observation(status="cancelled" if failure.kind == "cancelled" else "failed", failure=failure)
        if not operation.done:
            return Observation(status="running")
        return self._ready((operation.response or _Response()).generate_video_response or _Videos())

    def _failed(self, error: _Status) -> Failure:
        code = read_count(error.code)
        message = (
            self._words(error.message)
            or f"the upstream gives no reason, and {'no code' if code is None else f'code {code}'}"
        )
        if code == _CANCELLED:
            return Failure(kind="cancelled", message=message)
        if _POLICY.search(message):
            return Failure(kind="policy", message=message)
        return Failure(kind=_KINDS.get(code or 0, "upstream"), message=message, retryable=code in _RETRYABLE)

    def _ready(self, videos: _Videos) -> Observation:
        """What was made, or why it is withheld: an operation whose videos were all filtered ends without an error."""
        result = files(sample.video.uri for sample in videos.generated_samples or () if sample.video is not None)
        reasons = " ".join(videos.rai_media_filtered_reasons or ())
        count = read_count(videos.rai_media_filtered_count) or len(videos.rai_media_filtered_reasons or ())
        withheld = f"{count} {'video was' if count == 1 else 'videos were'} withheld by the rules on content"
        said = f"{withheld}: {self._words(reasons)}" if reasons else withheld
        if count and not result.urls:
            return Observation(status="failed", failure=Failure(kind="policy", message=said))
        return Observation(status="succeeded", log=(said,) if count else (), result=result)
