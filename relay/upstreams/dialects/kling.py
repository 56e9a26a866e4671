"""The dialect of Kling's API: an envelope with a code, which tells of errors also where HTTP says 200."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from relay.clock import Clock
from relay.errors import ErrorKind, UpstreamError, UsageError
from relay.observations import Failure, Observation, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import TASK_LIMIT, ItemUpstream, as_object, segment
from relay.upstreams.outputs import files

__all__ = ["Kling"]

_ROUTE: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_RISK: Final = re.compile(r"risk control|sensitive", re.IGNORECASE)

# By hundreds: authentication, the account, the request, the rules; and 5000 on, the service. These are the exceptions.
_KINDS: Final[Mapping[int, ErrorKind]] = {
    1103: "auth",
    1203: "not-found",
    1302: "rate-limit",
    1303: "rate-limit",
    1304: "auth",
}


class _Video(Struct):
    url: str | None = None


class _Result(Struct):
    videos: list[_Video] | None = None


class _Task(Struct):
    task_id: str | None = None
    task_status: str | None = None
    task_status_msg: Any = None
    task_result: _Result | None = None


class _Envelope(Struct):
    code: int
    message: Any = None
    data: _Task | None = None


class Kling(ItemUpstream):
    """The video tasks of one account of Kling's API, or of a gateway that speaks its dialect.

    A task is its route and its id, `image2video/7581...`; an id alone is one of `text2video`. *base_url* is
    `https://api-singapore.klingai.com`. The *token* is sent as it is; the API itself takes a JSON Web Token of half an
    hour at most, which a `relay.upstreams.signed.SignedToken` makes of the account's two keys. *interval*, *deadline*
    and *timeout* are in seconds. At most *concurrency* polls are under way at once. Tasks have no figure of progress,
    and cannot be called off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "kling",
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
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of the request, and return its route and id.

        Its key `route`, which is not sent, says which kind; without it, an `image` or `image_tail` makes an
        `image2video`, and else it is a `text2video`. Raises UsageError for what is no route, UpstreamError where the
        upstream does not take it.
        """
        body = dict(input)
        route = body.pop("route", "image2video" if {"image", "image_tail"} & body.keys() else "text2video")
        if not isinstance(route, str) or not _ROUTE.fullmatch(route):
            raise UsageError("the key 'route' of the input is a word such as text2video or multi-image2video")
        task = self._opened(as_object((await self._request("POST", f"v1/videos/{route}", json=body)).json())).task_id
        if not task or len(task) > TASK_LIMIT:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task")
        return f"{route}/{task}"

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.CallsBack`."""
        return {"callback_url": url, **input}

    def _path(self, task: str) -> str:
        route, slash, id = task.partition("/")
        if not slash:
            route, id = "text2video", task
        if not _ROUTE.fullmatch(route):
            raise UpstreamError("not-found", f"{task!r} is not of the form route/id")
        return f"v1/videos/{route}/{segment(id)}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        task = self._opened(body)
        if task.task_status is None:
            raise UpstreamError("malformed", "the answer is not in this dialect: it says no task_status")
        status = normalised(task.task_status)
        if status == "succeeded":
            videos: Sequence[_Video] = (task.task_result or _Result()).videos or ()
            return Observation(status=status, raw_status=task.task_status, result=files(video.url for video in videos))
        failure = self._ended(status, task.task_status, reason=task.task_status_msg)
        if failure is not None and failure.kind == "upstream" and _RISK.search(failure.message):
            failure = Failure(kind="policy", message=failure.message)
        return Observation(status=status, raw_status=task.task_status, failure=failure)

    def _opened(self, body: dict[str, Any]) -> _Task:
        """What is in the envelope. Raises UpstreamError, by its code, where it tells of an error."""
        envelope = self._typed(body, _Envelope)
        if envelope.code != 0:
            words = self._words(envelope.message)
            said = f"the upstream answered code {envelope.code}" + (f": {words}" if words else "")
            raise UpstreamError(_kind_of(envelope.code), said)
        if envelope.data is None:
            raise UpstreamError("malformed", "the answer is not in this dialect: it has no data")
        return envelope.data


def _kind_of(code: int) -> ErrorKind:
    if code in _KINDS:
        return _KINDS[code]
    match code // 100:
        case 10:
            return "auth"
        case hundred if hundred >= 50:
            return "server"
        case _:
            return "refused"
