"""A scripted upstream: a real HTTP server on loopback that speaks Sora's dialect and plays scenarios."""

import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from aiohttp.web import Application, HTTPException, Request, Response

from relay import UsageError
from relay.clock import Clock, SystemClock
from relay.testing.scripted import sora_bodies as bodies
from relay.testing.scripted.scenarios import Moment, Outage, Scenario, find_scenario
from relay.testing.scripted.server import FILE, PAGE, RETRY_AFTER, LoopbackServer, answer
from relay.testing.scripted.sora_bodies import FakeTask

__all__ = ["ScriptedUpstream"]

_BASE: Final = "/backend"
_PENDING: Final = "nf/pending/v2"
_DRAFTS: Final = "project_y/profile/drafts"
_KEPT: Final = 10_000

_Handler = Callable[[Request], Awaitable[Response]]


class ScriptedUpstream(LoopbackServer):
    """Sora's `nf/create`, `nf/pending/v2` and drafts for one account, whose tasks live as their scenarios say.

    Enter it to start the server, leave it to stop it. Then *url* is the base address, and *token* what a client must
    send as `Authorization: Bearer`. `nf/create` plays the scenario that the prompt begins with, as in `[gap] a cat`,
    and else the default, *scenario*. The drafts come in pages, the newest first: `limit` items of them, or 15, and the
    `cursor` of the next page, null on the last. *requests* counts requests by path, and `GET /requests` shows the
    counts. All times, those of delays too, are on *clock*. The newest 10,000 tasks are kept. With *drafts_v2* false the
    drafts are at their older path only.

    Raises UsageError for an unknown scenario, and on entering where the port cannot be had.
    """

    def __init__(
        self,
        *,
        scenario: str | Scenario = "happy",
        clock: Clock | None = None,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        drafts_v2: bool = True,
    ) -> None:
        super().__init__(host, port)
        self.token: str = token or secrets.token_urlsafe(24)
        self.tasks: dict[str, FakeTask] = {}
        self.requests: Counter[str] = Counter()
        self._scenario = find_scenario(scenario)
        self._clock: Clock = clock or SystemClock()
        self._drafts_v2 = drafts_v2

    @property
    def url(self) -> str:
        """The base address for an adapter, such as `http://127.0.0.1:40123/backend`."""
        return self.origin + _BASE

    def add_task(self, scenario: str | Scenario | None = None, *, input: Mapping[str, Any] | None = None) -> str:
        """Create a task as `nf/create` would, and return its id."""
        return self._create(find_scenario(scenario or self._scenario), input or {"prompt": "a scripted task"}).id

    def _application(self) -> Application:
        app = Application()
        app.router.add_get("/requests", self._show_requests)
        app.router.add_get("/files/{generation}/raw.mp4", self._show_file)
        app.router.add_post(f"{_BASE}/nf/create", self._answering("nf/create", self._take))
        app.router.add_get(f"{_BASE}/{_PENDING}", self._answering(_PENDING, self._list_pending))
        app.router.add_get(f"{_BASE}/{_DRAFTS}", self._answering(_DRAFTS, self._list_drafts))
        newer = self._list_drafts if self._drafts_v2 else _not_found
        app.router.add_get(f"{_BASE}/{_DRAFTS}/v2", self._answering(f"{_DRAFTS}/v2", newer))
        app.router.add_route("*", f"{_BASE}/{{rest:.*}}", _not_found)
        return app

    def _answering(self, path: str, handler: _Handler) -> _Handler:
        """*handler*, counted, behind the account's token, and affected by account-wide outages."""

        async def answering(request: Request) -> Response:
            self.requests[path] += 1
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                return _refused(401, "The authentication token is not valid.", "token_invalidated")
            if delay := max((moment.delay for _, moment in self._moments()), default=0.0):
                await self._clock.sleep(delay)
            for _, moment in self._moments():
                if moment.outage is not None and (moment.outage != "not-a-list" or path == _PENDING):
                    return _disturbed(moment.outage)
            return await handler(request)

        return answering

    def _moments(self) -> list[tuple[FakeTask, Moment]]:
        now = self._clock.monotonic()
        return [(task, task.at(now)) for task in self.tasks.values()]

    async def _take(self, request: Request) -> Response:
        try:
            input: object = json.loads(await request.read())
        except HTTPException:
            return _refused(413, "The request is too large.", "request_too_large")
        except ValueError:
            return _refused(400, "The body is not valid JSON.", "invalid_json")
        problem = _problem(input)
        if problem:
            return _refused(400, problem, "invalid_value")
        fields = cast("dict[str, Any]", input)
        name, bracket, _ = fields["prompt"].partition("]")
        scenario = self._scenario
        if bracket and name.startswith("["):
            try:
                scenario = find_scenario(name[1:])
            except UsageError as error:
                return _refused(400, str(error), "invalid_value")
        return answer(bodies.created(self._create(scenario, fields)))

    def _create(self, scenario: Scenario, input: Mapping[str, Any]) -> FakeTask:
        task = FakeTask(
            id=bodies.new_id("task"),
            generation=bodies.new_id("gen"),
            scenario=scenario,
            born=self._clock.monotonic(),
            created_at=self._clock.now(),
            input=input,
        )
        if len(self.tasks) >= _KEPT:
            del self.tasks[next(iter(self.tasks))]
        self.tasks[task.id] = task
        return task

    async def _list_pending(self, _: Request) -> Response:
        shown = [bodies.pending(task, moment) for task, moment in self._moments() if moment.where == "pending"]
        return answer(shown)

    async def _list_drafts(self, request: Request) -> Response:
        limit = request.query.get("limit", "15")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= 100):
            return _refused(400, "'limit' must be from 1 to 100.", "invalid_value")
        cursor = request.query.get("cursor", "0")
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
            return _refused(400, "'cursor' is none of ours.", "invalid_value")
        newest_first = [shown for shown in reversed(self._moments()) if shown[1].where == "drafts"]
        start, end = int(cursor), int(cursor) + int(limit)
        page = [
            bodies.draft(task, moment, bodies.signed_url(self.origin, task)) for task, moment in newest_first[start:end]
        ]
        return answer({"items": page, "cursor": str(end) if len(newest_first) > end else None})

    async def _show_requests(self, _: Request) -> Response:
        return answer(dict(self.requests))

    async def _show_file(self, request: Request) -> Response:
        if request.match_info["generation"] not in {task.generation for task in self.tasks.values()}:
            return _refused(404, "There is no such file.", "not_found")
        return Response(body=FILE, content_type="video/mp4")


def _refused(status: int, message: str, code: str) -> Response:
    return answer(bodies.error(status, message, code), status=status)


def _disturbed(outage: Outage) -> Response:
    match outage:
        case "unauthorised":
            return _refused(401, "The authentication token has expired.", "token_expired")
        case "rate-limited":
            body = bodies.error(429, "Too many requests.", "rate_limit_exceeded", kind="rate_limit_error")
            return answer(body, status=429, headers={"Retry-After": str(RETRY_AFTER)})
        case "html":
            return Response(status=403, text=PAGE, content_type="text/html")
        case "not-a-list":
            return answer({"detail": "temporarily unavailable"})


async def _not_found(_: Request) -> Response:
    return _refused(404, "There is nothing at this address.", "not_found")


def _problem(input: object) -> str | None:
    """The problem of a create request's body, or None."""
    if not isinstance(input, dict):
        return "The body must be an object."
    fields = cast("dict[str, Any]", input)
    if not isinstance(fields.get("prompt"), str) or not fields["prompt"].strip():
        return "'prompt' must be a text that is not empty."
    for name, allowed in _CHOICES.items():
        if fields.get(name) not in allowed:
            return f"{name!r} must be one of {', '.join(map(str, allowed))}."
    if not isinstance(fields.get("inpaint_items"), list):
        return "'inpaint_items' must be a list."
    return None


_CHOICES: Final[dict[str, tuple[object, ...]]] = {
    "kind": ("video",),
    "orientation": ("portrait", "landscape"),
    "size": ("small", "large"),
    "n_frames": (300, 450, 750),
    "model": ("sy_8", "sy_ore"),
}
