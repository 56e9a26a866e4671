"""The base of scripted upstreams that are polled task by task: real HTTP servers on loopback."""

import json
import math
import secrets
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

from aiohttp.web import Application, HTTPException, Request, Response
from msgspec import Struct

from relay import UsageError
from relay.clock import Clock, SystemClock
from relay.events import Status
from relay.jobs.observations import normalised
from relay.testing.scripted.scenarios import Moment, Outage, Scenario, find_scenario
from relay.testing.scripted.server import FILE, PAGE, RETRY_AFTER, LoopbackServer, answer

__all__ = ["ItemHandler", "ItemTask", "ItemView", "ScriptedItems", "whole_percent"]

_KEPT: Final = 10_000
_LASTS: Final = timedelta(days=1)


class ItemTask(Struct, kw_only=True, eq=False):
    """A task of a scripted upstream. *born* is on the clock's monotonic reading."""

    id: str
    scenario: Scenario
    born: float
    created_at: datetime
    input: Mapping[str, Any]
    cancelled: bool = False


class ItemView(Struct, frozen=True, kw_only=True):
    """What there is to show of a task now, for a dialect to put into its own words.

    *word* is the scenario's own word for the state; *progress* is its figure, of 0..1 or nonsense. Of a task that has
    succeeded, *has_file* says whether it names a file; of one that has failed, *policy* says whether by the rules on
    content, and *reason* why.
    """

    task: ItemTask
    state: Status
    word: str
    progress: Any = None
    has_file: bool = False
    policy: bool = False
    reason: str | None = None

    @property
    def expires(self) -> datetime:
        """Until when its file can be had."""
        return self.task.created_at + _LASTS


ItemHandler = Callable[[Request], Awaitable[Response]]


class ScriptedItems(LoopbackServer):
    """A server for one account, whose tasks play their scenarios and are polled one at a time.

    Enter it to start the server, leave it to stop it. Then *url* is the base address, and *token* what a client must
    send. A submit plays the scenario that the prompt begins with, as in `[gap] a cat`, and else the default,
    *scenario*. *requests* counts requests by name, and `GET /requests` shows the counts. All times, those of delays
    too, are on *clock*. The newest 10,000 tasks are kept.

    A task is pending while its scenario says so, not found while it is nowhere, and ended once it is among the drafts.

    A dialect says `prefix`, `routes`, `error` and, where its ids have a form, `new_id`. Raises UsageError for an
    unknown scenario, and on entering where the port cannot be had.
    """

    prefix: str = ""

    def __init__(
        self,
        *,
        scenario: str | Scenario = "happy",
        clock: Clock | None = None,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host, port)
        self.token: str = token or secrets.token_urlsafe(24)
        self.tasks: dict[str, ItemTask] = {}
        self.requests: Counter[str] = Counter()
        self._scenario = find_scenario(scenario)
        self._clock: Clock = clock or SystemClock()
        self._disturbers: dict[str, ItemTask] = {}

    @abstractmethod
    def routes(self) -> Mapping[tuple[str, str], ItemHandler]:
        """The handler of each method and path below `prefix`; an aiohttp path, such as `/v1/videos/{task}`."""

    @abstractmethod
    def error(self, status: int, message: str, code: str, /) -> object:
        """The body of an answer that is an error."""

    def new_id(self) -> str:
        """An id for a new task."""
        return f"task_{secrets.token_hex(12)}"

    def authorised(self, request: Request) -> bool:
        """Whether *request* bears the account's token."""
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    @property
    def url(self) -> str:
        """The base address for an adapter, such as `http://127.0.0.1:40123/v1`."""
        return self.origin + self.prefix

    def add_task(self, scenario: str | Scenario | None = None, *, input: Mapping[str, Any] | None = None) -> str:
        """Create a task as a submit would, and return its id."""
        return self.create(find_scenario(scenario or self._scenario), input or {"prompt": "a scripted task"}).id

    def create(self, scenario: Scenario, input: Mapping[str, Any]) -> ItemTask:
        """A new task, which begins to play *scenario* now."""
        task = ItemTask(
            id=self.new_id(),
            scenario=scenario,
            born=self._clock.monotonic(),
            created_at=self._clock.now(),
            input=input,
        )
        if len(self.tasks) >= _KEPT:
            oldest = next(iter(self.tasks))
            self._disturbers.pop(oldest, None)
            del self.tasks[oldest]
        self.tasks[task.id] = task
        if any(moment.outage or moment.delay for _, moment in scenario.phases):
            self._disturbers[task.id] = task
        return task

    async def take(self, request: Request, *, prompt: str = "prompt", required: bool = True) -> ItemTask | Response:
        """The task that the body of *request* asks for, or the refusal.

        *prompt* is the key of the prompt, or the way to it: `input.prompt`, `instances.0.prompt`.
        """
        try:
            input = await _body(request)
        except HTTPException:
            return self.refused(413, "The request is too large.", "request_too_large")
        except ValueError:
            return self.refused(400, "The body is not valid.", "invalid_body")
        words = _found(input, prompt)
        if not isinstance(words, str) or (required and not words.strip()):
            return self.refused(400, f"{prompt!r} must be a text that is not empty.", "invalid_value")
        name, bracket, _ = words.partition("]")
        scenario = self._scenario
        if bracket and name.startswith("["):
            try:
                scenario = find_scenario(name[1:])
            except UsageError as error:
                return self.refused(400, str(error), "invalid_value")
        return self.create(scenario, input)

    def view(self, request: Request, name: str = "task") -> ItemView | None:
        """What there is to show of the task that the path of *request* names, None where there is none."""
        return self.view_of(request.match_info[name])

    def view_of(self, id: str) -> ItemView | None:
        """What there is to show of the task with that *id*, None where there is none."""
        task = self.tasks.get(id)
        return None if task is None else _viewed(task, self._moment(task))

    def figures(self, task: ItemTask) -> list[float]:
        """The figures of 0..1 that *task* has shown so far, for a dialect whose progress is in a log."""
        elapsed = self._clock.monotonic() - task.born
        shown = [moment.progress for start, moment in task.scenario.phases if start <= elapsed]
        return [figure for figure in shown if isinstance(figure, float) and 0 <= figure <= 1]

    def file_url(self, task: ItemTask, kind: str = "mp4", /) -> str:
        """Where the file of *task* is."""
        return f"{self.origin}/files/{task.id}.{kind}"

    def file(self) -> Response:
        """The file itself."""
        return Response(body=FILE, content_type="video/mp4")

    def refused(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
        """An answer that is an error."""
        return answer(self.error(status, message, code), status=status, headers=headers)

    def not_found(self) -> Response:
        """The answer about a task that there is not."""
        return self.refused(404, "There is no such task.", "not_found")

    def disturbed(self, outage: Outage) -> Response:
        """The answer while *outage* lasts."""
        match outage:
            case "unauthorised":
                return self.refused(401, "The authentication token has expired.", "token_expired")
            case "rate-limited":
                wait = {"Retry-After": str(RETRY_AFTER)}
                return self.refused(429, "Too many requests.", "rate_limit_exceeded", wait)
            case "html":
                return Response(status=403, text=PAGE, content_type="text/html")
            case "not-a-list":
                return answer(["temporarily unavailable"])

    def _application(self) -> Application:
        app = Application()
        app.router.add_get("/requests", self._show_requests)
        app.router.add_get("/files/{task}.{kind}", self._show_file)
        for (method, path), handler in self.routes().items():
            app.router.add_route(method, self.prefix + path, self._answering(f"{method} {path}", handler))
        app.router.add_route("*", "/{rest:.*}", self._show_nothing)
        return app

    def _answering(self, name: str, handler: ItemHandler) -> ItemHandler:
        """*handler*, counted, behind the account's token, and affected by account-wide outages."""

        async def answering(request: Request) -> Response:
            self.requests[name] += 1
            if not self.authorised(request):
                return self.refused(401, "The authentication token is not valid.", "token_invalidated")
            if delay := max((self._moment(task).delay for task in self._disturbers.values()), default=0.0):
                await self._clock.sleep(delay)
            for task in self._disturbers.values():
                if (outage := self._moment(task).outage) is not None:
                    return self.disturbed(outage)
            return await handler(request)

        return answering

    def _moment(self, task: ItemTask) -> Moment:
        return task.scenario.at(self._clock.monotonic() - task.born)

    async def _show_requests(self, _: Request) -> Response:
        return answer(dict(self.requests))

    async def _show_file(self, request: Request) -> Response:
        return self.file() if request.match_info["task"] in self.tasks else self.not_found()

    async def _show_nothing(self, _: Request) -> Response:
        return self.refused(404, "There is nothing at this address.", "not_found")


def whole_percent(progress: Any) -> Any:
    """A figure of 0..1 as whole percent; whatever else it is, as it is."""
    if isinstance(progress, int | float) and not isinstance(progress, bool) and math.isfinite(progress):
        return round(progress * 100)
    return progress


def _viewed(task: ItemTask, moment: Moment) -> ItemView | None:
    if task.cancelled:
        return ItemView(task=task, state="cancelled", word="cancelled")
    match moment:
        case Moment(where="pending", status=word, progress=progress):
            return ItemView(task=task, state=normalised(word), word=word, progress=progress)
        case Moment(where="drafts", kind="sora_draft"):
            return ItemView(task=task, state="succeeded", word="succeeded", progress=1.0, has_file=moment.has_url)
        case Moment(where="drafts", kind=kind):
            policy = kind == "sora_content_violation"
            return ItemView(task=task, state="failed", word="failed", policy=policy, reason=moment.reason)
        case _:
            return None


def _found(input: Any, way: str) -> Any:
    """What there is in *input* at the end of *way*, an empty text for nothing."""
    for part in way.split("."):
        try:
            input = input[int(part) if isinstance(input, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            return ""
    return input


async def _body(request: Request) -> Mapping[str, Any]:
    """The fields of a JSON object or of a form. Raises ValueError where it is neither."""
    if request.content_type in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    body: object = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return cast("dict[str, Any]", body)
