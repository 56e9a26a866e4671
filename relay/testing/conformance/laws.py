"""The laws of what an adapter makes of an answer. Each is a function that raises BrokenLawError with what was seen."""

import json
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from itertools import product
from typing import Final, cast

from relay import UpstreamError
from relay.clock import SystemClock
from relay.jobs.observations import Observation
from relay.testing.conformance.byte_server import (
    ScriptedResponse,
    endless,
    packed,
    padded,
    reset,
    truncated,
    whole,
    zipped,
)
from relay.testing.conformance.trial import (
    BrokenLawError,
    Trial,
    Verdict,
    answering_at,
    changed,
    deepened,
    ended,
    leaves,
    parts,
    place,
    served,
    shown,
    succeeded,
)
from relay.upstreams.base import FetchesResults, Upstream
from relay.upstreams.http.client import BODY_LIMIT
from relay.upstreams.reading.values import DEPTH_LIMIT

__all__ = ["ANSWER_LAWS", "MOST_LEAVES", "PAGE", "Law"]

Law = Callable[[Trial], Awaitable[None]]

PAGE: Final = b"<!DOCTYPE html><html><body>Just a moment...</body></html>"
_ODD: Final[tuple[object, ...]] = (
    *(None, "42%", 1.7, -3, float("nan"), float("inf"), True, "1e999", "", {}, [], 10**30, "\x1b[2J\r\n", "x" * 5_000),
)
_OTHERS: Final[tuple[object, ...]] = ([], {}, 7, True, None)
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
    """A task at work is reported as queued or running, without an end."""
    verdict = await trial.observed()
    if not isinstance(verdict, Observation) or verdict.status not in ("queued", "running") or ended(verdict):
        raise BrokenLawError(f"a running task came out as {shown(verdict)}")


async def done(trial: Trial) -> None:
    """A finished task has a result: files, a value, or, where it is *fileless*, only that it is done."""
    trial.answers(trial.bodies.done)
    verdict = await trial.followed()
    if not succeeded(verdict) or (isinstance(verdict, Observation) and verdict.failure is not None):
        raise BrokenLawError(f"a finished task came out as {shown(verdict)}")


async def failed(trial: Trial) -> None:
    """A task that failed has a failure with words, and nothing that looks like a success."""
    trial.answers(trial.bodies.failed)
    verdict = await trial.followed()
    if not isinstance(verdict, Observation) or verdict.failure is None or verdict.result is not None:
        raise BrokenLawError(f"a failed task came out as {shown(verdict)}")
    if not verdict.failure.message.strip():
        raise BrokenLawError("a failure says why, and this one has no message")


async def unknown(trial: Trial) -> None:
    """An unknown status is reported as `unknown`, and polling goes on."""
    verdict = await trial.observed()
    body = served(trial.bodies.running, trial.server.requests[0].target)
    word = verdict.raw_status if isinstance(verdict, Observation) else None
    for path, value in leaves(body):
        if word is None or not isinstance(value, str) or value.lower() != word.lower():
            continue
        _replace(trial, changed(body, path, "renderring"))
        odd = await trial.observed()
        if not isinstance(odd, Observation) or odd.status != "unknown" or ended(odd):
            raise BrokenLawError(f"the status 'renderring' at {place(path)} came out as {shown(odd)}")


async def figures(trial: Trial) -> None:
    """Whatever a field holds, figures stay within their bounds, a running task is not done, and errors say where."""
    right = await trial.observed()
    body = served(trial.bodies.running, trial.server.requests[0].target)
    states = _states(body, right)
    for path, _ in list(leaves(body))[:MOST_LEAVES]:
        for odd in _ODD:
            _replace(trial, changed(body, path, odd))
            where = f"{odd!r:.30} at {place(path)}"
            try:
                verdict = await trial.observed()
            except BrokenLawError as broken:
                raise BrokenLawError(f"with {where}: {broken}") from broken.__cause__
            if succeeded(verdict) and path not in states:
                raise BrokenLawError(f"with {where}, a running task came out as done")
            names = [str(key) for key in path if isinstance(key, str)]
            if (
                isinstance(verdict, UpstreamError)
                and verdict.kind == _MALFORMED
                and names
                and names[-1] not in str(verdict)
            ):
                raise BrokenLawError(f"with {where}, the error does not name the field: {verdict}")


async def beside(trial: Trial) -> None:
    """What stands beside a status, and is of another type than it should, costs neither the status nor the answer."""
    await trial.observed()
    target = trial.server.requests[0].target
    word = None
    for state in ("running", "done", "failed"):
        whole_body = getattr(trial.bodies, state)
        body = served(whole_body, target)
        trial.server.script = answering_at(trial, target, whole(body), whole_body)
        right = await trial.observed()
        before, word = word, right.raw_status if isinstance(right, Observation) else None
        if word == before:
            # The same word for good and bad: it is something else that decides.
            continue
        for path, value in _beside(trial, body, right):
            for odd in _OTHERS:
                if type(odd) is type(value):
                    continue
                trial.server.script = answering_at(trial, target, whole(changed(body, path, odd)), whole_body)
                _check_kept(state, f"{odd!r} at {place(path)}", right, await trial.observed())


async def bodies(trial: Trial) -> None:
    """HTML, half a body, too much, too deep and other nonsense are errors that leave the job alive."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.requests[0].target)
    for what, response in _nonsense(body):
        trial.responds(response)
        try:
            verdict = await trial.observed()
        except BrokenLawError as broken:
            raise BrokenLawError(f"with {what}: {broken}") from broken.__cause__
        _check_tried_again(what, verdict)


async def limits(trial: Trial) -> None:
    """An answer of as many bytes and levels as there may be is read, and one of one more is an error."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.requests[0].target)
    for what, response, fits in _edges(body, trial.bodies.body_limit):
        trial.server.script = answering_at(trial, trial.server.requests[0].target, response, trial.bodies.running)
        verdict = await trial.observed()
        if not fits:
            _check_tried_again(what, verdict)
        elif not isinstance(verdict, Observation):
            raise BrokenLawError(f"{what} came out as {shown(verdict)}; so much is read")


async def results(trial: Trial) -> None:
    """What a result is looked up with may fail too, and that is no success."""
    if not isinstance(trial.upstream, FetchesResults):
        return
    trial.answers(trial.bodies.done)
    await trial.followed()
    targets = {request.target for request in trial.server.requests}
    for target in sorted(targets):
        for what, response in (("a page of HTML", whole(PAGE)), ("status 503", whole({}, 503)), ("a reset", reset)):
            trial.server.script = answering_at(trial, target, response)
            verdict = await trial.followed()
            if succeeded(verdict) or (isinstance(verdict, Observation) and verdict.failure is not None):
                raise BrokenLawError(f"{what} at {target} came out as {shown(verdict)}")


async def statuses(trial: Trial) -> None:
    """Each HTTP status has its kind: those that end a job, three times in a row, and those that pass."""
    kinds = {
        **{400: "refused", 401: "auth", 403: "auth", 404: "not-found", 410: "not-found", 422: "refused"},
        429: "rate-limit",
    }
    for status in (400, 401, 403, 404, 408, 409, 410, 422, 425, 429, 500, 502, 503, 504):
        trial.responds(whole({"error": {"message": "no"}}, status))
        verdict = await trial.observed()
        right = isinstance(verdict, UpstreamError) and (
            verdict.kind == kinds[status] if status in kinds else verdict.kind not in (*_ENDS, "internal", "auth")
        )
        if not right:
            raise BrokenLawError(f"status {status} came out as {shown(verdict)}")


async def patience(trial: Trial) -> None:
    """Retry-After is obeyed, in seconds and as a date, between 0.2 and 60 seconds, whatever passes bears it."""
    past = format_datetime(SystemClock().now().replace(year=2001), usegmt=True)
    odd = f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT"
    asks = {"5": (5.0, 5.0), "0": (0.2, 0.2), "86400": (60.0, 60.0), past: (0.2, 0.2), "soon": None, odd: None}
    for status, (header, bounds) in product(_PATIENT, asks.items()):
        trial.responds(whole({}, status, retry_after=header))
        verdict = await trial.observed()
        wait = verdict.retry_after if isinstance(verdict, UpstreamError) else -1.0
        if bounds is None and wait is None:
            continue
        low, high = bounds or (0.2, 60.0)
        if wait is None or not low <= wait <= high:
            came_out = f"came out as {shown(verdict)} with retry_after={wait}"
            raise BrokenLawError(f"status {status} with Retry-After: {header} {came_out}")


ANSWER_LAWS: Final[tuple[Law, ...]] = (
    *(contract, running, done, failed, unknown, figures, beside, bodies, limits, results, statuses, patience),
)


def _states(body: object, verdict: Verdict) -> list[tuple[str | int, ...]]:
    """The paths at which *body* holds the status of the outcome; some statuses are true or a number."""
    word = verdict.raw_status.lower() if isinstance(verdict, Observation) and verdict.raw_status else None
    return [
        path
        for path, value in leaves(body)
        if word is not None and word == (value if isinstance(value, str) else json.dumps(value)).lower()
    ]


def _beside(trial: Trial, body: object, right: Verdict) -> list[tuple[tuple[str | int, ...], object]]:
    """The parts of *body* that are not on the way to the status, which is known by its word, or to the task's id."""
    states = _states(body, right)
    if not states:
        return []
    vital = [*states, *(path for path, value in leaves(body) if value == trial.bodies.task)]
    return [(path, value) for path, value in parts(body) if not any(way[: len(path)] == path for way in vital)]


def _check_kept(state: str, where: str, right: Verdict, verdict: Verdict) -> None:
    kept = (
        isinstance(verdict, Observation) and isinstance(right, Observation) and verdict.raw_status == right.raw_status
    )
    if kept and isinstance(verdict, Observation):
        # What a finished task has where an error would be may be one.
        same = state == "done" or (isinstance(right, Observation) and verdict.status == right.status)
        kept = (
            same and (state != "failed" or verdict.failure is not None) and (state != "running" or not ended(verdict))
        )
    if not kept:
        raise BrokenLawError(f"with {where}, which is beside the status, a {state} task came out as {shown(verdict)}")


def _nonsense(body: object) -> list[tuple[str, ScriptedResponse]]:
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


def _edges(body: object, limit: int) -> list[tuple[str, ScriptedResponse, bool]]:
    """Each answer in words, as sent, and whether it must be accepted."""
    edges: list[tuple[str, ScriptedResponse, bool]] = []
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


def _check_tried_again(what: str, verdict: Verdict) -> None:
    if not isinstance(verdict, UpstreamError) or verdict.kind in (*_ENDS, "internal", "auth"):
        raise BrokenLawError(
            f"{what} came out as {shown(verdict)}; it is an UpstreamError of a kind that is tried again"
        )


def _replace(trial: Trial, body: object) -> None:
    """Answer the first requested address with *body*, and every other as the running task would."""
    trial.server.script = answering_at(trial, trial.server.requests[0].target, whole(body), trial.bodies.running)
