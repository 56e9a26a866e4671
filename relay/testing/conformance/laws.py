"""The laws of what an adapter makes of an answer. Each is a function that raises BrokenLawError with what was seen."""

from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from itertools import product
from typing import Final, cast

from relay.clock import SystemClock
from relay.errors import UpstreamError
from relay.observations import Observation
from relay.testing.answering import Speech, endless, packed, padded, reset, truncated, whole, zipped
from relay.testing.trial import (
    BrokenLawError,
    Said,
    Trial,
    answering_at,
    changed,
    deepened,
    ended,
    leaves,
    place,
    served,
    shown,
    succeeded,
)
from relay.upstreams.base import FetchesResults, Upstream
from relay.upstreams.http import BODY_LIMIT
from relay.upstreams.wire import DEPTH_LIMIT

__all__ = ["ANSWER_LAWS", "MOST_LEAVES", "PAGE", "Law"]

Law = Callable[[Trial], Awaitable[None]]

PAGE: Final = b"<!DOCTYPE html><html><body>Just a moment...</body></html>"
_ODD: Final[tuple[object, ...]] = (
    *(None, "42%", 1.7, -3, float("nan"), float("inf"), True, "1e999", "", {}, [], 10**30, "\x1b[2J\r\n", "x" * 5_000),
)
MOST_LEAVES: Final = 40
_MALFORMED: Final = "malformed"
_PATIENT: Final = (408, 429, 500, 502, 503, 504)
_ENDS: Final = ("not-found", "refused")
"""Kinds with which the poller may end a job, after three in a row about that task."""


async def contract(trial: Trial) -> None:
    """It is an Upstream: a name, an interval, a deadline, and `observe`."""
    upstream = trial.upstream
    if not isinstance(cast("object", upstream), Upstream):
        raise BrokenLawError("it lacks a part of relay.upstreams.Upstream")
    if not upstream.name or upstream.interval <= 0 or upstream.deadline <= 0:
        raise BrokenLawError("name is a text that is not empty; interval and deadline are seconds above 0")


async def running(trial: Trial) -> None:
    """A task at work is told as queued or running, without an end."""
    said = await trial.observed()
    if not isinstance(said, Observation) or said.status not in ("queued", "running") or ended(said):
        raise BrokenLawError(f"a running task came out as {shown(said)}")


async def done(trial: Trial) -> None:
    """A finished task has a result with a URL."""
    trial.answers(trial.bodies.done)
    said = await trial.followed()
    if not succeeded(said) or (isinstance(said, Observation) and said.failure is not None):
        raise BrokenLawError(f"a finished task came out as {shown(said)}")


async def failed(trial: Trial) -> None:
    """A task that failed has a failure with words, and nothing that looks like a success."""
    trial.answers(trial.bodies.failed)
    said = await trial.followed()
    if not isinstance(said, Observation) or said.failure is None or said.result is not None:
        raise BrokenLawError(f"a failed task came out as {shown(said)}")
    if not said.failure.message.strip():
        raise BrokenLawError("a failure says why, and this one has no message")


async def unknown(trial: Trial) -> None:
    """A status that nobody knows is told as `unknown`, and polling goes on."""
    said = await trial.observed()
    body = served(trial.bodies.running, trial.server.asked[0].target)
    word = said.raw_status if isinstance(said, Observation) else None
    for path, value in leaves(body):
        if word is None or not isinstance(value, str) or value.lower() != word.lower():
            continue
        _replace(trial, changed(body, path, "renderring"))
        odd = await trial.observed()
        if not isinstance(odd, Observation) or odd.status != "unknown" or ended(odd):
            raise BrokenLawError(f"the status 'renderring' at {place(path)} came out as {shown(odd)}")


async def figures(trial: Trial) -> None:
    """Whatever a field holds, figures stay within their bounds, a running task is not done, and errors say where."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.asked[0].target)
    for path, _ in list(leaves(body))[:MOST_LEAVES]:
        for odd in _ODD:
            _replace(trial, changed(body, path, odd))
            where = f"{odd!r:.30} at {place(path)}"
            try:
                said = await trial.observed()
            except BrokenLawError as broken:
                raise BrokenLawError(f"with {where}: {broken}") from broken.__cause__
            if succeeded(said):
                raise BrokenLawError(f"with {where}, a running task came out as done")
            names = [str(key) for key in path if isinstance(key, str)]
            if isinstance(said, UpstreamError) and said.kind == _MALFORMED and names and names[-1] not in str(said):
                raise BrokenLawError(f"with {where}, the error does not name the field: {said}")


async def bodies(trial: Trial) -> None:
    """HTML, half a body, too much, too deep and other nonsense are errors that leave the job alive."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.asked[0].target)
    for what, speech in _nonsense(body):
        trial.speaks(speech)
        try:
            said = await trial.observed()
        except BrokenLawError as broken:
            raise BrokenLawError(f"with {what}: {broken}") from broken.__cause__
        _check_tried_again(what, said)


async def limits(trial: Trial) -> None:
    """An answer of as many bytes and levels as there may be is read, and one of one more is an error."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.asked[0].target)
    for what, speech, fits in _edges(body, trial.bodies.body_limit):
        trial.server.script = answering_at(trial, trial.server.asked[0].target, speech, trial.bodies.running)
        said = await trial.observed()
        if not fits:
            _check_tried_again(what, said)
        elif not isinstance(said, Observation):
            raise BrokenLawError(f"{what} came out as {shown(said)}; so much is read")


async def results(trial: Trial) -> None:
    """What a result is looked up with may fail too, and that is no success."""
    if not isinstance(trial.upstream, FetchesResults):
        return
    trial.answers(trial.bodies.done)
    await trial.followed()
    targets = {asked.target for asked in trial.server.asked}
    for target in sorted(targets):
        for what, speech in (("a page of HTML", whole(PAGE)), ("status 503", whole({}, 503)), ("a reset", reset)):
            trial.server.script = answering_at(trial, target, speech)
            said = await trial.followed()
            if succeeded(said) or (isinstance(said, Observation) and said.failure is not None):
                raise BrokenLawError(f"{what} at {target} came out as {shown(said)}")


async def statuses(trial: Trial) -> None:
    """Each HTTP status has its kind: those that end a job, three times in a row, and those that pass."""
    kinds = {
        **{400: "refused", 401: "auth", 403: "auth", 404: "not-found", 410: "not-found", 422: "refused"},
        429: "rate-limit",
    }
    for status in (400, 401, 403, 404, 408, 409, 410, 422, 425, 429, 500, 502, 503, 504):
        trial.speaks(whole({"error": {"message": "no"}}, status))
        said = await trial.observed()
        right = isinstance(said, UpstreamError) and (
            said.kind == kinds[status] if status in kinds else said.kind not in (*_ENDS, "internal", "auth")
        )
        if not right:
            raise BrokenLawError(f"status {status} came out as {shown(said)}")


async def patience(trial: Trial) -> None:
    """Retry-After is obeyed, in seconds and as a date, between 0.2 and 60 seconds, whatever passes bears it."""
    past = format_datetime(SystemClock().now().replace(year=2001), usegmt=True)
    odd = f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT"
    asks = {"5": (5.0, 5.0), "0": (0.2, 0.2), "86400": (60.0, 60.0), past: (0.2, 0.2), "soon": None, odd: None}
    for status, (header, bounds) in product(_PATIENT, asks.items()):
        trial.speaks(whole({}, status, retry_after=header))
        said = await trial.observed()
        wait = said.retry_after if isinstance(said, UpstreamError) else -1.0
        if bounds is None and wait is None:
            continue
        low, high = bounds or (0.2, 60.0)
        if wait is None or not low <= wait <= high:
            came_out = f"came out as {shown(said)} with retry_after={wait}"
            raise BrokenLawError(f"status {status} with Retry-After: {header} {came_out}")


ANSWER_LAWS: Final[tuple[Law, ...]] = (
    *(contract, running, done, failed, unknown, figures, bodies, limits, results, statuses, patience),
)


def _nonsense(body: object) -> list[tuple[str, Speech]]:
    kind = type(body).__name__
    other: object = {} if kind == "list" else []
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [
        ("a page of HTML", whole(PAGE, content_type="text/html")),
        ("an empty body", whole(b"")),
        ("half a JSON text", whole(b'{"id": "tas')),
        ("null", whole(None)),
        ("a text", whole("running")),
        (f"{other} in place of {kind}", whole(other)),
        ("a body that breaks off", truncated(body)),
        ("a connection that is reset", reset),
        ("a body that is too long", endless(body)),
        ("a body that inflates too far", zipped(body)),
        ("a body that nests too deep", whole(b"[" * 100_000)),
        ("a body that is not compressed as it says", whole(body, content_encoding="gzip")),
        ("a chunk of no size", chunked + b"zz\r\nnonsense\r\n\r\n"),
        ("a chunk that breaks off", chunked + b"ffff\r\n{"),
        ("no HTTP", b"+OK ready\r\n\r\n"),
    ]


def _edges(body: object, limit: int) -> list[tuple[str, Speech, bool]]:
    """What is said, how, and whether it is read."""
    edges: list[tuple[str, Speech, bool]] = []
    for length in (limit, limit + 1):
        content, what = padded(body, length), f"body of {length:,} bytes"
        edges += [
            (f"a {what}", whole(content), length == limit),
            (f"a compressed {what}", packed(content), length == limit),
        ]
    for levels in (DEPTH_LIMIT, DEPTH_LIMIT + 1):
        if (nested := deepened(body, levels)) is not None:
            what, long = f"a body of {levels} levels", padded(nested, min(limit, BODY_LIMIT))
            edges += [(what, whole(nested), levels == DEPTH_LIMIT)]
            edges += [(f"{what} and {len(long):,} bytes", whole(long), levels == DEPTH_LIMIT)]
    return edges


def _check_tried_again(what: str, said: Said) -> None:
    if not isinstance(said, UpstreamError) or said.kind in (*_ENDS, "internal", "auth"):
        raise BrokenLawError(f"{what} came out as {shown(said)}; it is an UpstreamError of a kind that is tried again")


def _replace(trial: Trial, body: object) -> None:
    """Answer the first address asked with *body*, and every other as the running task would."""
    trial.server.script = answering_at(trial, trial.server.asked[0].target, whole(body), trial.bodies.running)
