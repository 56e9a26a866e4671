"""The base of upstreams that answer for one task at a time: one GET each, a few at once, over one HTTP client."""

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import quote

import msgspec

from relay.clock import Clock
from relay.errors import ErrorKind, UpstreamError, UsageError
from relay.events import Status
from relay.observations import Answer, Failure, Observation
from relay.upstreams.base import ExchangeListener
from relay.upstreams.http import HttpClient, Reply, Token
from relay.upstreams.masking import without_secrets

__all__ = ["ItemUpstream", "as_object", "needing", "segment"]

TASK_LIMIT: Final = 256
"""The most characters of a task id that an upstream may give."""

_T = TypeVar("_T", bound=msgspec.Struct)

_POLICY: Final = re.compile(r"moderat|safety|polic(y|ies)|guideline|guardrail|violat", re.IGNORECASE)
"""What codes of a refusal by the rules on content have in common, and reasons where there is no code."""

_OF_THE_ACCOUNT: Final[tuple[ErrorKind, ...]] = ("auth", "rate-limit", "network", "timeout", "server")
"""What is as likely the account's trouble as one task's, the most telling first."""


class ItemUpstream(ABC):
    """One account of an API that is asked about one task at a time.

    A dialect says `_path` and `_read`, and has `submit` and `cancel` where its API does. At most *concurrency* polls
    are under way at once, however often `observe` is called. *interval*, *deadline* and *timeout* are in seconds;
    *headers* go with every request, and the token in *header*, after *scheme*. Raises UsageError where *base_url*,
    *token* or *concurrency* cannot be what they should.

    *on_exchange*, where set, hears every raw exchange, secrets masked; its `jobs` is the task asked for.
    """

    item_type: bool = True

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str,
        interval: float,
        deadline: float,
        timeout: float = 30.0,
        concurrency: int = 8,
        clock: Clock | None = None,
        scheme: str = "Bearer",
        header: str = "Authorization",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError("concurrency is a number of requests, 1 or more")
        self.name = name
        self.interval = interval
        self.deadline = deadline
        self.on_exchange: ExchangeListener | None = None
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._http = HttpClient(
            base_url,
            token,
            upstream=name,
            timeout=timeout,
            clock=clock,
            scheme=scheme,
            header=header,
            headers=headers,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def credential(self) -> object:
        """A value that changes whenever the token does."""
        return self._http.credential()

    @abstractmethod
    def _path(self, task: str) -> str:
        """Where *task* is asked for, below the base URL. Raises UpstreamError for an id that cannot be one."""

    @abstractmethod
    def _read(self, task: str, body: dict[str, Any], reply: Reply, /) -> Observation:
        """What *body*, the object in *reply*, says about *task*. Raises UpstreamError."""

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about each of *tasks*; `listed` is how many it told of.

        An error about one task stands for that task. Raises UpstreamError, once, where no task got an answer and the
        reason is the account's: after some such errors in a row, or the first rate limit, the rest is not asked for.
        """
        return await self._each(tasks, self._observe)

    async def _each(self, tasks: Sequence[str], ask: Callable[[str], Awaitable[Observation | None]]) -> Answer:
        """What *ask* finds out about each of *tasks*, within the same bounds and with the same errors as `observe`.

        A task about which it returns None is left out of the answer.
        """
        wanted = list(dict.fromkeys(tasks))
        if len(wanted) == 1:
            return await self._alone(wanted[0], ask)
        asking = _Round(wanted, ask, patience=self._concurrency)
        await self._work_together(asking, min(self._concurrency, len(wanted)))
        return asking.answer()

    async def _alone(self, task: str, ask: Callable[[str], Awaitable[Observation | None]]) -> Answer:
        """The answer about one task, as most polls are: without what it takes to ask about several."""
        try:
            async with self._slots:
                said = await ask(task)
        except UpstreamError as error:
            told = self._about(error)
            if told.kind in _OF_THE_ACCOUNT:
                raise told from None
            return Answer(listed=0, tasks={task: told})
        if said is None:
            return Answer(listed=0, tasks={})
        return Answer(listed=1, tasks={task: without_secrets(said, self._http.mask)})

    async def _work_together(self, asking: "_Round", workers: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(asking))
        except ExceptionGroup as errors:
            # A fault of the adapter: the poller tells the operator which, and a group would hide it.
            raise errors.exceptions[0] from None

    async def _work(self, asking: "_Round") -> None:
        for task in asking:
            try:
                async with self._slots:
                    said = await asking.ask(task)
                asking.said(task, said and without_secrets(said, self._http.mask))
            except UpstreamError as error:
                asking.said(task, self._about(error))

    def _about(self, error: UpstreamError) -> UpstreamError:
        """What *error*, which came of asking about one task, means in this dialect."""
        return error

    def _typed(self, body: dict[str, Any], kind: type[_T]) -> _T:
        """*body* as a *kind*. Raises UpstreamError (malformed), which names the field and never what it holds."""
        try:
            return msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            problem = f"the answer is not in this dialect: {error}"
        raise UpstreamError("malformed", problem)

    async def _observe(self, task: str) -> Observation:
        reply = await self._request("GET", self._path(task), jobs=(task,))
        return self._read(task, as_object(reply.json()), reply)

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

        Raises UpstreamError; an answer without an id is malformed, as the task may exist all the same.
        """
        answer: Any = (await self._request("POST", path, json=dict(body))).json()
        for part in key.split("."):
            answer = cast("dict[str, Any]", answer).get(part) if isinstance(answer, dict) else None
        if not isinstance(answer, str) or not 0 < len(answer) <= TASK_LIMIT:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task")
        return answer

    def _ended(self, status: Status, word: str | None, *, reason: object = None, code: object = None) -> Failure | None:
        """How a task of this *status* has ended without a result; None where it has not.

        *word* is the upstream's own for the status, *reason* why, and *code* the same for machines.
        """
        if status not in ("failed", "cancelled"):
            return None
        message = self._words(reason) or self._words(code) or f"the upstream says {self._words(word)!r}"
        if status == "cancelled":
            return Failure(kind="cancelled", message=message)
        if _POLICY.search(code if isinstance(code, str) and code else message):
            return Failure(kind="policy", message=message)
        return Failure(kind="upstream", message=message, retryable=True)

    def _words(self, reason: object) -> str:
        """A reason as text without secrets, empty where there is none."""
        if reason is None or reason == "":
            return ""
        return self._http.mask(reason if isinstance(reason, str) else json.dumps(reason))


class _Round:
    """The tasks of one `observe`, handed to whichever worker is free, and what was said about them."""

    def __init__(
        self, tasks: Sequence[str], ask: Callable[[str], Awaitable[Observation | None]], *, patience: int
    ) -> None:
        self.ask = ask
        self._tasks = tasks
        self._left = iter(tasks)
        self._patience = patience
        self._said: dict[str, Observation | UpstreamError] = {}
        self._answers = 0
        self._in_a_row = 0
        self._given_up: UpstreamError | None = None

    def __iter__(self) -> Iterator[str]:
        while self._given_up is None and (task := next(self._left, None)) is not None:
            yield task

    def said(self, task: str, said: Observation | UpstreamError | None) -> None:
        if said is not None:
            self._said[task] = said
        if isinstance(said, Observation):
            self._answers += 1
        if not isinstance(said, UpstreamError) or said.kind not in _OF_THE_ACCOUNT:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        # One odd task may be forbidden, or break the server, for good: it must not keep the others from being asked.
        if said.kind == "rate-limit" or self._in_a_row >= self._patience:
            self._given_up = said

    def answer(self) -> Answer:
        errors = [said for said in self._said.values() if isinstance(said, UpstreamError)]
        if errors and len(errors) == len(self._said) and all(error.kind in _OF_THE_ACCOUNT for error in errors):
            raise min(errors, key=lambda error: _OF_THE_ACCOUNT.index(error.kind))
        if self._given_up is not None:
            for task in self._tasks:
                self._said.setdefault(task, self._given_up)
        return Answer(listed=self._answers, tasks=self._said)


def segment(task: str) -> str:
    """*task* as one segment of a path. Raises UpstreamError (not-found) for what no URL can hold as one."""
    if task.strip(".") == "":
        raise UpstreamError("not-found", f"{task!r} is no task id")
    return quote(task, safe="")


def needing(input: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """*input* as it is to be sent. Raises UsageError unless each of *keys* is a text that is not empty."""
    for key in keys:
        if not isinstance(input.get(key), str) or not input[key].strip():
            raise UsageError(f"the input needs the key {key!r}, a text that is not empty")
    return dict(input)


def as_object(body: object) -> dict[str, Any]:
    """*body* itself, where it is an object. Raises UpstreamError (malformed) where it is not."""
    if not isinstance(body, dict):
        raise UpstreamError("malformed", "the answer is not in this dialect: expected an object")
    return cast("dict[str, Any]", body)
