"""One adapter at one scripted server: its observation of each answer, in the terms of the laws."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import partial
from math import isfinite
from typing import Any, Final, NoReturn, TypeVar, cast

import msgspec
from msgspec import Struct

from relay import Done, Exchange, UpstreamError
from relay.jobs.observations import Answer, Observation
from relay.jobs.outcome import outcome
from relay.testing.conformance.broken_law import BrokenLawError
from relay.testing.conformance.byte_server import ByteServer, Request, ScriptedResponse, whole
from relay.testing.conformance.fast_forward_loop import HasteningLoop
from relay.upstreams.base import FetchesResults, Upstream
from relay.upstreams.http.client import BODY_LIMIT

__all__ = [
    "LONGEST",
    "TOKEN",
    "BrokenLawError",
    "Make",
    "Trial",
    "UpstreamBodies",
    "Verdict",
    "answering_at",
    "changed",
    "deepened",
    "ended",
    "leaves",
    "parts",
    "place",
    "served",
    "shown",
    "succeeded",
    "trying",
]

T = TypeVar("T")

Make = Callable[[str, str], Upstream]

TOKEN: Final = "canary-7Qx_secret-token"  # noqa: S105
"""The token that adapters are given, which nobody may see again."""

LONGEST: Final = 120.0
"""The most seconds that a request may take."""


class UpstreamBodies(Struct, frozen=True, kw_only=True):
    """What an upstream answers about one task, as its API sends it: JSON values as Python has them.

    *running*, *done* and *failed* are the answers about *task* in these states. Where an API has several addresses,
    such as one for results, a body is a function that is given each request's path and query and returns the JSON
    value. *input* is what `submit` takes and *created* what that is answered; without them it is not tried.
    *body_limit* is the most bytes that the adapter reads of the answer to its first request of a poll.
    """

    running: Any
    done: Any
    failed: Any
    task: str = "task-1"
    input: Mapping[str, Any] | None = None
    created: Any = None
    body_limit: int = BODY_LIMIT


Verdict = Observation | UpstreamError | None
"""The outcome of a poll of the task: an observation, an error, or nothing."""


class Trial:
    """An open adapter and the server that it asks. *another* makes one more adapter of that server, not yet open."""

    def __init__(
        self,
        upstream: Upstream,
        server: ByteServer,
        bodies: UpstreamBodies,
        loop: HasteningLoop,
        another: Callable[[], Upstream],
    ) -> None:
        self.upstream = upstream
        self.another = another
        self.server = server
        self.bodies = bodies
        self.loop = loop
        self.exchanges: list[Exchange] = []
        upstream.on_exchange = self.exchanges.append

    def answers(self, body: Any) -> None:
        """From now on, *body* is the answer."""
        self.server.script = partial(_served_whole, body)

    def responds(self, response: ScriptedResponse) -> None:
        """From now on, *response* is the answer, whatever it is."""
        self.server.script = partial(_fixed, response)

    async def observed(self) -> Verdict:
        """What `observe` says about the task."""
        return self._about(await self._bounded(self.upstream.observe([self.bodies.task])))

    async def followed(self) -> Verdict:
        """What a poll comes to, with the result looked up where the poller would."""
        verdict = await self.observed()
        if not isinstance(self.upstream, FetchesResults) or isinstance(verdict, UpstreamError):
            return verdict
        if verdict is None or (verdict.status == "succeeded" and verdict.result is None and verdict.failure is None):
            return self._about(await self._bounded(self.upstream.fetch_result([self.bodies.task])))
        return verdict

    async def submitted(self, submit: Callable[[Mapping[str, Any]], Awaitable[str]]) -> str | UpstreamError:
        """What came of handing in the input."""
        found: Any = await self._bounded(submit(self.bodies.input or {}))
        if isinstance(found, UpstreamError | str) and found:
            return found
        raise BrokenLawError(f"submit returned {found!r}; it returns the task's id, a text that is not empty")

    async def _bounded(self, question: Awaitable[T]) -> T | UpstreamError:
        try:
            async with asyncio.timeout(LONGEST):
                return await question
        except UpstreamError as error:
            return error
        except TimeoutError:
            raise BrokenLawError(f"no answer and no error within {LONGEST:g} seconds; bound every request") from None
        except Exception as error:
            what = f"{type(error).__name__} ({error})".replace(TOKEN, "***")
            raise BrokenLawError(
                f"{what} was raised; an adapter raises UpstreamError, and nothing else on purpose"
            ) from error

    def _about(self, answer: object) -> Verdict:
        if isinstance(answer, UpstreamError):
            return answer
        if not isinstance(answer, Answer):
            raise BrokenLawError(f"{type(answer).__name__} was returned; observe and fetch_result return an Answer")
        verdict = answer.tasks.get(self.bodies.task)
        if isinstance(verdict, Observation):
            _check_figures(verdict)
        return verdict


@asynccontextmanager
async def trying(make: Make, bodies: UpstreamBodies, loop: HasteningLoop) -> AsyncGenerator[Trial, None]:
    """A trial, whose adapter is entered and left. Raises BrokenLawError where it leaves a task behind."""
    before = asyncio.all_tasks()
    async with ByteServer(lambda request: whole(served(bodies.running, request.target))) as server:
        try:
            async with make(server.url, TOKEN) as upstream:
                yield Trial(upstream, server, bodies, loop, lambda: make(server.url, TOKEN))
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - before - server.tasks
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if left:
            raise BrokenLawError(f"it was left, and {len(left)} of its tasks still ran")


def _served_whole(body: Any, request: Request) -> ScriptedResponse:
    return whole(served(body, request.target))


def _fixed(response: ScriptedResponse, _: Request) -> ScriptedResponse:
    return response


def served(body: Any, target: str) -> Any:
    """The JSON value that answers a request for *target*."""
    return body(target) if callable(body) else body


def leaves(value: object) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Every value within *value* that holds no others, with the way to it."""
    for path, part in parts(value):
        if not isinstance(part, dict | list | tuple):
            yield path, part
    if not isinstance(value, dict | list | tuple):
        yield (), value


def parts(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Every value within *value*, those that hold others too, with the way to it."""
    if path:
        yield path, value
    inside: Sequence[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        inside = list(cast("dict[str, object]", value).items())
    elif isinstance(value, list | tuple):
        inside = list(enumerate(cast("list[object]", value)))
    for key, part in inside:
        yield from parts(part, (*path, key))


def changed(body: Any, path: tuple[str | int, ...], value: object) -> Any:
    """*body* with *value* at the end of *path*."""
    if not path:
        return value
    copy: Any = deepcopy(body)
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def deepened(body: Any, levels: int) -> Any:
    """*body* with one more field, in its first object, below which it nests *levels* deep in all; None without one."""
    path = _first_object(body)
    if path is None:
        return None
    nested: list[Any] = []
    for _ in range(levels - len(path) - 2):
        nested = [nested]
    return changed(body, (*path, "x_nested"), nested)


def _first_object(value: object) -> tuple[str | int, ...] | None:
    if isinstance(value, dict):
        return ()
    parts = enumerate(cast("list[object]", value)) if isinstance(value, list) else ()
    found = ((number, _first_object(part)) for number, part in parts)
    return next(((number, *path) for number, path in found if path is not None), None)


def _check_figures(verdict: Observation) -> None:
    """Raise BrokenLawError if the observation contradicts its types and units."""
    try:
        msgspec.convert(msgspec.to_builtins(verdict), Observation)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        _odd(f"an observation holds what it cannot: {error}")
    if verdict.percent is not None and not 0 <= verdict.percent <= 100:
        _odd(f"percent is {verdict.percent}; it is 0 to 100, or None")
    for name in ("eta", "poll_after"):
        seconds: float | None = getattr(verdict, name)
        if seconds is not None and not (isfinite(seconds) and seconds >= 0):
            _odd(f"{name} is {seconds}; it is a number of seconds, or None")
    if verdict.queue_position is not None and verdict.queue_position < 0:
        _odd(f"queue_position is {verdict.queue_position}; it is 0 or more, or None")


def _odd(problem: str) -> NoReturn:
    raise BrokenLawError(problem)


def answering_at(
    trial: Trial, target: str, response: ScriptedResponse, body: Any = None
) -> Callable[[Request], ScriptedResponse]:
    """Answer *target* with *response*, and every other address as *body* says, else as of a finished task."""
    rest = trial.bodies.done if body is None else body
    return lambda request: response if request.target == target else whole(served(rest, request.target))


def ended(verdict: Observation) -> bool:
    return verdict.result is not None or verdict.failure is not None


def succeeded(verdict: Verdict) -> bool:
    """Whether the relay would publish the task as done."""
    result = verdict.result if isinstance(verdict, Observation) else None
    return result is not None and any(isinstance(event, Done) for event in outcome(result))


def place(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "the top"


def shown(verdict: object) -> str:
    if isinstance(verdict, UpstreamError):
        text = f"an UpstreamError of kind {verdict.kind!r} ({verdict})"
    else:
        text = "nothing at all" if verdict is None else repr(verdict)
    return text.replace(TOKEN, "***")
