"""The dialect of MiniMax's video API, version 1: a state to poll, and a file to look up once that is a success."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

from msgspec.structs import replace

from relay.errors import ErrorKind, UpstreamError
from relay.jobs.observations import Answer, Failure, Observation
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, as_object
from relay.upstreams.reading.fields import Fields, about
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.values import identifier
from relay.upstreams.settings import Name, Seconds, UpstreamSettings, WebhookUpstreamSettings

__all__ = ["MiniMax", "MiniMaxSettings"]

_INVALID: Final = 2013
_POLICY: Final = frozenset({1026, 1027})
_KINDS: Final[Mapping[int, ErrorKind]] = {
    1000: "server",
    1001: "timeout",
    1002: "rate-limit",
    1004: "auth",
    1024: "server",
    1033: "server",
    1039: "rate-limit",
    1041: "rate-limit",
    2045: "rate-limit",
    2049: "auth",
    2056: "rate-limit",
}


class MiniMaxSettings(WebhookUpstreamSettings, frozen=True, kw_only=True):
    """One account of MiniMax, by version 1 of its API."""

    kind: ClassVar[str] = "minimax"

    name: Name = kind
    interval: Seconds = 10.0


class MiniMax(PerTaskUpstream):
    """The video tasks of one account of MiniMax (Hailuo), by version 1 of its API.

    *base_url* is `https://api.minimax.io`. *interval*, *deadline* and *timeout* are in seconds. At most *concurrency*
    polls are under way at once. A finished task names a file, whose address is looked up with `fetch_result`. Tasks
    have no figure of progress, and cannot be called off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = MiniMaxSettings
    image_at: str | None = "first_frame_image"

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of the request, and return its id.

        Raises UpstreamError where the upstream does not take it.
        """
        reply = await self._request("POST", "v1/video_generation", json=dict(input))
        query = Fields(as_object(reply.json()))
        named = query.about("task_id", "id")
        task = None if named is None else named.first("task_id", "id")
        if task is None:
            self._check(query)
        return self._new_task(task)

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """Where the files of *tasks* are; a task without a file is left out. Raises UpstreamError as `observe` does."""
        return await self._each(tasks, self._fetched)

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.AcceptsWebhook`."""
        return {"callback_url": url, **input}

    _marks = ("status", "base_resp")

    def _path(self, task: str) -> str:
        return f"v1/query/video_generation?task_id={quote(task, safe='', errors='replace')}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        query = Fields(body)
        word, status = query.status("status")
        code = query.part("base_resp").code("status_code")
        if code in _POLICY:
            failure = Failure(kind="policy", message=self._message(query, code))
            return Observation(status="failed", raw_status=word, failure=failure, warning=query.warning)
        if not word:
            self._check(query)
            raise UpstreamError("malformed", "the answer is not in this dialect: it says no status")
        ended = self._ended(status, word, reason=self._message(query, code) if code else None, answer=query)
        return Observation(status=status, raw_status=word, failure=ended, warning=query.warning)

    async def _fetched(self, task: str) -> Observation | None:
        # The task is polled again: an adapter remembers nothing, and only the task names its file.
        reply = await self._request("GET", self._path(task), jobs=(task,))
        body = reply.json()
        body = about(body, *self._marks) or as_object(body)
        seen = self._read(task, body, reply)
        if seen.status != "succeeded":
            return seen if seen.failure is not None else None
        file = identifier(Fields(body)["file_id"])
        if file is None:
            return replace(seen, result=files(anywhere(body, self._address(task))))
        path = f"v1/files/retrieve?file_id={quote(file, safe='', errors='replace')}"
        retrieved = Fields(as_object((await self._request("GET", path, jobs=(task,))).json()))
        here = f"{self._http.base_url}/{path}"
        found = retrieved.part("file").address("download_url", here)
        addresses = anywhere(retrieved.all, here) if found is None else (found,)
        if not addresses:
            self._check(retrieved)
        return replace(seen, result=files(addresses), warning=seen.warning or retrieved.warning)

    def _check(self, answer: Fields) -> None:
        """Raise UpstreamError, by its code, if the answer reports an error: HTTP says 200 all the same."""
        code = answer.part("base_resp").code("status_code")
        if code is None:
            raise UpstreamError("malformed", "the answer is not in this dialect: it has no base_resp.status_code")
        if code == _INVALID and "file" not in answer:
            # A query has one parameter, the task, so the task is invalid.
            raise UpstreamError("not-found", self._message(answer, code))
        if code:
            raise UpstreamError(_KINDS.get(code, "refused"), self._message(answer, code))

    def _message(self, answer: Fields, code: int) -> str:
        words = self._words(answer.part("base_resp")["status_msg"])
        return f"the upstream answered code {code}" + (f": {words}" if words else "")
