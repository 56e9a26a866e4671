"""The dialect of MiniMax's video API, version 1: a state to poll, and a file to look up once that is a success."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from relay.clock import Clock
from relay.errors import ErrorKind, UpstreamError
from relay.observations import Answer, Failure, Observation, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import TASK_LIMIT, ItemUpstream, as_object
from relay.upstreams.outputs import files
from relay.upstreams.wire import Figure

__all__ = ["MiniMax"]

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


class _Base(Struct):
    status_code: int
    status_msg: Any = None


class _Query(Struct):
    base_resp: _Base
    task_id: Any = None
    status: str | None = None
    file_id: Any = None


class _File(Struct):
    download_url: str | None = None


class _Retrieved(Struct):
    base_resp: _Base
    file: _File | None = None


class MiniMax(ItemUpstream):
    """The video tasks of one account of MiniMax (Hailuo), by version 1 of its API.

    *base_url* is `https://api.minimax.io`. *interval*, *deadline* and *timeout* are in seconds. At most *concurrency*
    polls are under way at once. A finished task names a file, whose address is looked up with `fetch_result`. Tasks
    have no figure of progress, and cannot be called off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "minimax",
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
        """Create a task of *input*, the body of the request, and return its id.

        Raises UpstreamError where the upstream does not take it.
        """
        reply = await self._request("POST", "v1/video_generation", json=dict(input))
        query = self._typed(as_object(reply.json()), _Query)
        self._check(query.base_resp)
        task = _id(query.task_id)
        if not task or len(task) > TASK_LIMIT:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task")
        return task

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """Where the files of *tasks* are; a task without a file is left out. Raises UpstreamError as `observe` does."""
        return await self._each(tasks, self._fetched)

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.CallsBack`."""
        return {"callback_url": url, **input}

    def _path(self, task: str) -> str:
        return f"v1/query/video_generation?task_id={quote(task, safe='')}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        query = self._typed(body, _Query)
        said = query.base_resp
        if said.status_code in _POLICY:
            failure = Failure(kind="policy", message=self._said(said))
            return Observation(status="failed", raw_status=query.status, failure=failure)
        status = normalised(query.status)
        if status not in ("failed", "cancelled"):
            if said.status_code == _INVALID:
                # A query has one parameter, the task: what is invalid is that.
                raise UpstreamError("not-found", self._said(said))
            self._check(said)
        if query.status is None:
            raise UpstreamError("malformed", "the answer is not in this dialect: it says no status")
        reason = self._said(said) if said.status_code != 0 else None
        ended = self._ended(status, query.status, reason=reason)
        return Observation(status=status, raw_status=query.status, failure=ended)

    async def _fetched(self, task: str) -> Observation | None:
        # The task is asked for again: an adapter remembers nothing, and only the task names its file.
        reply = await self._request("GET", self._path(task), jobs=(task,))
        body = as_object(reply.json())
        said = self._read(task, body, reply)
        if said.status != "succeeded":
            return said if said.failure is not None else None
        file = _id(self._typed(body, _Query).file_id)
        if not file:
            return Observation(status="succeeded", raw_status=said.raw_status, result=files(()))
        path = f"v1/files/retrieve?file_id={quote(file, safe='')}"
        retrieved = self._typed(as_object((await self._request("GET", path, jobs=(task,))).json()), _Retrieved)
        self._check(retrieved.base_resp)
        found = (retrieved.file or _File()).download_url
        return Observation(status="succeeded", raw_status=said.raw_status, result=files((found,)))

    def _check(self, said: _Base) -> None:
        """Raise UpstreamError, by its code, where *said* tells of an error: HTTP says 200 all the same."""
        if said.status_code != 0:
            raise UpstreamError(_KINDS.get(said.status_code, "refused"), self._said(said))

    def _said(self, said: _Base) -> str:
        words = self._words(said.status_msg)
        return f"the upstream answered code {said.status_code}" + (f": {words}" if words else "")


def _id(value: object) -> str:
    """An id as text: MiniMax writes them as numbers too, some longer than any number here. Empty where it is none."""
    match value:
        case str():
            return value
        case Figure():
            return value.wire
        case int() if not isinstance(value, bool):
            return str(value)
        case _:
            return ""
