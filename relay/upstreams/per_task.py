"""The base of upstreams that answer for one task at a time: one GET each, a few at once, over one HTTP client."""

import asyncio
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias, TypeVar, Unpack, cast
from urllib.parse import quote

from msgspec.structs import replace

from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.jobs.observations import Answer, Failure, Observation
from relay.text import well_formed
from relay.upstreams.http.account import AccountOptions, AccountUpstream
from relay.upstreams.http.client import Token
from relay.upstreams.http.redaction import redact
from relay.upstreams.http.reply import NotYetError, Reply
from relay.upstreams.reading.fields import Fields, about, only
from relay.upstreams.reading.reasons import ended, in_words
from relay.upstreams.reading.values import identifier
from relay.upstreams.settings import PerTaskSettings, UpstreamSettings, default_of
from relay.upstreams.task_round import OF_THE_ACCOUNT, TaskRound

__all__ = ["PerTaskOptions", "PerTaskUpstream", "as_object", "needing", "paced", "segment"]

TASK_LIMIT: Final = 256
"""The most characters of a task id that an upstream may give."""

_Seen = TypeVar("_Seen", Observation, Observation | UpstreamError)

_Ask: TypeAlias = Callable[[str], Awaitable[Observation | None]]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*")
"""A task id that is written in a path as it is."""

_IDS: Final = (("id", "task_id", "request_id"), ("data", "result"))
"""Where answers name a new task, when not where the dialect has it."""


class PerTaskOptions(AccountOptions, total=False):
    """The options of every adapter that polls each task."""

    concurrency: int


class PerTaskUpstream(AccountUpstream):
    """One account of an API that is polled one task at a time.

    A dialect says `_path` and `_read`, and has `submit` and `cancel` where its API does. At most *concurrency* polls
    are under way at once, however often `observe` is called. *interval*, *deadline* and *timeout* are in seconds;
    *headers* go with every request, and the token in *header*, after *scheme*. Raises UsageError where *base_url*,
    *token* or *concurrency* cannot be what they should.

    *on_exchange*, if set, receives every raw exchange, secrets redacted; its `jobs` is the polled task.
    """

    settings: ClassVar[type[UpstreamSettings]] = PerTaskSettings
    polls_each_task: bool = True
    _marks: tuple[str, ...] = ("status",)
    """By which of these fields the object is known that an answer is about; gateways wrap it in others."""

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        concurrency: int | None = None,
        scheme: str | None = None,
        header: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Unpack[AccountOptions],
    ) -> None:
        super().__init__(base_url, token, scheme=scheme, header=header, headers=headers, **options)
        if concurrency is None:
            concurrency = cast(int, default_of(self.settings, "concurrency"))
        if concurrency < 1:
            raise UsageError("concurrency is a number of requests, 1 or more")
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)

    @property
    def requests(self) -> int:
        """How many requests were made so far: the poller keeps all of them within its budget."""
        return self._http.requests

    @abstractmethod
    def _path(self, task: str) -> str:
        """The path of *task*, below the base URL. Raises UpstreamError for an id that cannot be one."""

    @abstractmethod
    def _read(self, task: str, body: dict[str, Any], reply: Reply, /) -> Observation:
        """What *body*, the object in *reply*, says about *task*. Raises UpstreamError."""

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """The upstream's report on each of *tasks*; `listed` is how many it reported on.

        A task with an empty answer (202 or 204 without a document) is still running, and an answer's Retry-After is the
        time of the next poll. An error about one task stands for that task. Raises UpstreamError, once, if no task got
        an answer and the reason is the account's: after some such errors in a row, or the first rate limit, the rest is
        not polled.
        """
        return await self._each(tasks, self._polled)

    async def _each(self, tasks: Sequence[str], ask: _Ask) -> Answer:
        """What *ask* finds out about each of *tasks*, within the same bounds and with the same errors as `observe`.

        A task about which it returns None, or raises NotYetError, is left out of the answer.
        """
        if len(tasks) == 1:
            return await self._alone(tasks[0], ask)
        wanted = list(dict.fromkeys(tasks))
        work = TaskRound(wanted, partial(self._among_others, ask), patience=self._concurrency)
        return await work.run(min(self._concurrency, len(wanted)))

    async def _among_others(self, ask: _Ask, task: str) -> Observation | UpstreamError | None:
        """What stands for *task* in an answer about several."""
        try:
            async with self._slots:
                seen = await ask(task)
            return seen and redact(seen, self._http.redactor)
        except NotYetError:
            return None
        except UpstreamError as error:
            return self._about(error)

    async def _alone(self, task: str, ask: _Ask) -> Answer:
        """The answer about one task, as most polls are: without what it takes to ask about several."""
        await self._slots.acquire()
        try:
            seen = await ask(task)
        except NotYetError as error:
            return Answer(listed=0, tasks={}, poll_after=error.retry_after)
        except UpstreamError as error:
            meant = self._about(error)
            if meant.kind in OF_THE_ACCOUNT:
                raise meant from None
            return Answer(listed=0, tasks={task: meant})
        finally:
            self._slots.release()
        if seen is None:
            return Answer(listed=0, tasks={})
        return Answer(listed=1, tasks={task: redact(seen, self._http.redactor)})

    def _about(self, error: UpstreamError) -> UpstreamError:
        """What *error*, which came of a request about one task, means in this dialect."""
        return error

    def _address(self, task: str) -> str:
        """Where the answer about *task* comes from, which addresses in it are relative to."""
        return f"{self._http.base_url}/{self._path(task)}"

    async def _polled(self, task: str) -> Observation:
        try:
            return await self._observe(task)
        except NotYetError as error:
            return Observation(status="running", poll_after=error.retry_after)

    async def _observe(self, task: str) -> Observation:
        reply = await self._request("GET", self._path(task), jobs=(task,))
        try:
            body = reply.json()
            return paced(self._read(task, about(body, *self._marks) or as_object(body), reply), reply)
        except UpstreamError as error:
            error.retry_after = error.retry_after or reply.poll_after
            raise

    async def _request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        jobs: Sequence[str] = (),
        answers: Collection[int] = (),
        limit: int | None = None,
    ) -> Reply:
        return await self._http.request(
            method,
            path,
            json=json,
            headers=headers,
            jobs=jobs,
            answers=answers,
            limit=limit,
            on_exchange=self.on_exchange,
        )

    async def _create(self, path: str, body: Mapping[str, Any], *, key: str = "id") -> str:
        """POST *body*, once, and return the task id at *key* of the answer, a dotted path.

        An id may be sent as a number, within an envelope, or by another usual name. Raises UpstreamError; an answer
        without an id is malformed, as the task may exist all the same.
        """
        answer = (await self._request("POST", path, json=dict(body))).json()
        ids = (self._id(about(answer, *names), *names) for names in ((key,), *_IDS))
        return self._new_task(next(filter(None, ids), None))

    def _id(self, answer: dict[str, Any] | None, *names: str) -> str | None:
        fields = Fields(answer or {})
        return next((found for name in names if (found := identifier(fields[name]))), None)

    def _new_task(self, id: object) -> str:
        """The *id* of a task that was created, as text. Raises UpstreamError (malformed) where it is none."""
        task = identifier(id)
        if task is None or len(task) > TASK_LIMIT:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task")
        return self._http.redactor.task(task)

    def _ended(
        self,
        status: Status,
        word: str | None,
        *,
        reason: object = None,
        code: object = None,
        answer: Fields | None = None,
    ) -> Failure | None:
        """See `ended`."""
        return ended(status, word, self._http.redactor, reason=reason, code=code, answer=answer)

    def _words(self, reason: object) -> str:
        """See `in_words`."""
        return in_words(reason, self._http.redactor)


def paced(seen: _Seen, reply: Reply) -> _Seen:
    """*seen*, to be polled again at the time in *reply*, unless it has a time of its own or the task has ended."""
    if reply.poll_after is None or isinstance(seen, UpstreamError) or seen.poll_after is not None:
        return seen
    return seen if seen.result or seen.failure else replace(seen, poll_after=reply.poll_after)


def segment(task: str) -> str:
    """*task* as one segment of a path. Raises UpstreamError (not-found) for what no URL can hold as one."""
    if _PLAIN.fullmatch(task):
        return task
    if task.strip(".") == "" or well_formed(task) != task:
        raise UpstreamError("not-found", f"{task!r} is no task id")
    return quote(task, safe="")


def needing(input: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """*input* as it is to be sent. Raises UsageError unless each of *keys* is a text that is not empty."""
    for key in keys:
        if not isinstance(input.get(key), str) or not input[key].strip():
            raise UsageError(f"the input needs the key {key!r}, a text that is not empty")
    return dict(input)


def as_object(body: object) -> dict[str, Any]:
    """*body*, which is an object, or a list of one. Raises UpstreamError (malformed) where it is not."""
    if (found := only(body)) is None:
        raise UpstreamError("malformed", "the answer is not in this dialect: expected an object")
    return found
