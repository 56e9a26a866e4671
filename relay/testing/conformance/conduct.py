"""The laws of how an adapter behaves: one request, no secret revealed, an end in time, nothing left behind."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Final

from relay import Cancelled, Done, Failed, Progress, Record, Relay, Retrying, UpstreamError
from relay.jobs.observations import Observation
from relay.testing.conformance.byte_server import ByteServer, ScriptedResponse, drip, hang, reset, truncated, whole
from relay.testing.conformance.fast_forward_loop import LoopClock
from relay.testing.conformance.laws import MOST_LEAVES, PAGE, Law
from relay.testing.conformance.trial import (
    LONGEST,
    TOKEN,
    BrokenLawError,
    Trial,
    Verdict,
    answering_at,
    changed,
    leaves,
    place,
    served,
    shown,
)
from relay.upstreams.base import Submits

__all__ = ["CONDUCT_LAWS"]


async def redirects(trial: Trial) -> None:
    """A redirect is refused: its target does not receive the token."""
    async with ByteServer(lambda request: whole(served(trial.bodies.running, request.target))) as elsewhere:
        for status in (301, 302, 307, 308):
            trial.responds(whole({}, status, location=f"{elsewhere.url}/anywhere"))
            verdict = await trial.observed()
            if elsewhere.requests:
                raise BrokenLawError(f"a redirect with status {status} was followed")
            if not isinstance(verdict, UpstreamError):
                raise BrokenLawError(f"a redirect with status {status} came out as {shown(verdict)}")


async def secrecy(trial: Trial) -> None:
    """The token is in no error, no repr, no reason and no exchange, also where the upstream repeats it."""
    verdict: Verdict = None
    for status in (400, 401, 404, 429, 500):
        words = f"the token {TOKEN} is wrong"
        trial.responds(whole({"error": {"message": words}, "message": words, "detail": words}, status, x_echo=TOKEN))
        verdict = await trial.observed()
        _look(f"status {status}", repr(verdict), *_traceback_of(verdict))
    for response in (reset, whole(TOKEN.encode()), whole(PAGE)):
        trial.responds(response)
        verdict = await trial.observed()
        _look("an answer that cannot be read", repr(verdict), *_traceback_of(verdict))
    await _with_token(trial, trial.bodies.failed, trial.followed, _look_at_reason)
    await _quoted(trial)
    await _brought(trial)
    _look("its repr", repr(trial.upstream), str(trial.upstream))
    _look("an exchange", *(repr(exchange) for exchange in trial.exchanges))


async def _quoted(trial: Trial) -> None:
    """The token is in nothing that is quoted of a task that runs."""

    def look(at: str, verdict: Verdict) -> None:
        if isinstance(verdict, Observation):
            quoted = (verdict.raw_status, verdict.raw_percent, verdict.warning, *verdict.log)
            _look(f"the token at {at} of a task that runs", *filter(None, quoted))

    await _with_token(trial, trial.bodies.running, trial.observed, look, behind=object)


async def _brought(trial: Trial) -> None:
    """The token is in no value that a task has brought; an address may hold what opens it."""

    def look(at: str, verdict: Verdict) -> None:
        result = verdict.result if isinstance(verdict, Observation) else None
        _look(f"the token at {at} of a finished task", repr(result.value) if result is not None else "")

    await _with_token(trial, trial.bodies.done, trial.followed, look)


def _look_at_reason(at: str, verdict: Verdict) -> None:
    reason = verdict.failure.message if isinstance(verdict, Observation) and verdict.failure is not None else ""
    _look(f"the token at {at}", reason, *_traceback_of(verdict))


async def _with_token(
    trial: Trial,
    body: object,
    act: Callable[[], Awaitable[Verdict]],
    look: Callable[[str, Verdict], None],
    *,
    behind: type = str,
) -> None:
    """*look* at the place and the verdict of each answer in which the token stands *behind* a value of that type."""
    trial.answers(body)
    await act()
    for target in {request.target for request in trial.server.requests}:
        answer = served(body, target)
        for path, value in [(path, value) for path, value in leaves(answer) if isinstance(value, behind)][:MOST_LEAVES]:
            trial.server.script = answering_at(trial, target, whole(changed(answer, path, f"{value} {TOKEN}")), body)
            look(place(path), await act())


async def once(trial: Trial) -> None:
    """A request is made once: whether, and when, to try again is the poller's to say. So is all waiting."""
    # Not after a reset: aiohttp asks once more by itself where a GET meets a kept connection that was just closed.
    for what, response in (("status 503", whole({}, 503)), ("a page of HTML", whole(PAGE)), ("an answer", None)):
        before, skipped = len(trial.server.requests), trial.loop.skipped
        if response is None:
            trial.answers(trial.bodies.running)
        else:
            trial.responds(response)
        await trial.observed()
        sent = [(one.method, one.target) for one in trial.server.requests[before:]]
        if len(sent) != len(set(sent)):
            raise BrokenLawError(f"after {what} the same request was sent {len(sent)} times in one call")
        if trial.loop.skipped > skipped:
            raise BrokenLawError("it sleeps; an adapter sends requests, and the poller waits")


async def submits(trial: Trial) -> None:
    """Work is handed in once, also where the answer is lost: it may cost money."""
    upstream = trial.upstream
    if not isinstance(upstream, Submits) or trial.bodies.input is None:
        return
    trial.answers(trial.bodies.created)
    if isinstance(verdict := await trial.submitted(upstream.submit), UpstreamError):
        raise BrokenLawError(f"a submit that was answered came out as {shown(verdict)}")
    lost: tuple[tuple[str, ScriptedResponse], ...] = (
        *(("a reset", reset), ("half an answer", truncated(served(trial.bodies.created, "")))),
        *(("no answer", hang), ("status 503", whole({}, 503)), ("a page of HTML", whole(PAGE))),
    )
    for what, response in lost:
        before = len(trial.server.requests)
        trial.responds(response)
        if not isinstance(verdict := await trial.submitted(upstream.submit), UpstreamError):
            raise BrokenLawError(f"with {what}, a submit came out as the task {verdict!r}")
        sent = [(one.method, one.target) for one in trial.server.requests[before:]]
        if len(sent) != len(set(sent)):
            raise BrokenLawError(f"with {what}, the same was handed in {len(sent)} times")


async def bounds(trial: Trial) -> None:
    """No poll takes for ever, neither where nothing comes nor where something always does."""
    for what, response in (("an upstream that does not answer", hang), ("an answer without an end", drip)):
        trial.responds(response)
        try:
            verdict = await trial.observed()
        except BrokenLawError as broken:
            raise BrokenLawError(f"{what}: {broken}") from broken.__cause__
        if not isinstance(verdict, UpstreamError) or verdict.kind not in ("timeout", "network"):
            raise BrokenLawError(f"{what} came out as {shown(verdict)}")


async def cancelling(trial: Trial) -> None:
    """A poll that is cancelled ends at once, leaves no task and no request behind, and the next one works."""
    before = asyncio.all_tasks()
    trial.responds(hang)
    trial.server.arrived.clear()
    poll = asyncio.ensure_future(trial.upstream.observe([trial.bodies.task]))
    await trial.server.arrived.wait()
    poll.cancel()
    try:
        async with asyncio.timeout(10):
            await asyncio.wait([poll])
            await trial.server.dropped.wait()
    except TimeoutError:
        raise BrokenLawError("a poll was cancelled, and its request goes on") from None
    if not poll.cancelled():
        raise BrokenLawError("a poll was cancelled, and CancelledError did not come out of it")
    for _ in range(50):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - trial.server.tasks
    if left:
        raise BrokenLawError(f"a poll was cancelled, and left {len(left)} task(s) behind")
    trial.answers(trial.bodies.running)
    if not isinstance(verdict := await trial.observed(), Observation):
        raise BrokenLawError(f"after a cancelled poll, the next came out as {shown(verdict)}")


async def story(trial: Trial) -> None:
    """A job that a relay polls through all kinds of failures has one end, no holes, and is not polled any more."""
    await trial.observed()
    body = served(trial.bodies.running, trial.server.requests[0].target)
    for end, kind in ((trial.bodies.done, Done), (trial.bodies.failed, Failed)):
        records = await _lived(trial, body, end)
        ends = [record.event for record in records if record.terminal]
        if [record.seq for record in records] != list(range(1, len(records) + 1)):
            raise BrokenLawError("the records of the job are not numbered 1, 2, 3 ...")
        if len(ends) != 1 or not records[-1].terminal or not isinstance(ends[0], (kind, Cancelled)):
            raise BrokenLawError(f"the job ended with {[event.text for event in ends]}, not with one {kind.__name__}")
        if isinstance(ends[0], Cancelled) and kind is Done:
            raise BrokenLawError("a finished job came out as cancelled")
        _look("a record", *(record.json.decode() for record in records))


async def _lived(trial: Trial, body: object, end: object) -> list[Record]:
    """The records of a job that meets trouble between one good answer and the next, and then its *end*."""
    good: ScriptedResponse = whole(body)
    troubles: tuple[ScriptedResponse, ...] = (whole(PAGE), reset, whole({}, 503), truncated(body), whole({}, 401), hang)
    scenes: list[ScriptedResponse] = [scene for trouble in troubles for scene in (good, trouble)]
    records: list[Record] = []
    over = asyncio.Event()

    def move_on(record: Record) -> None:
        records.append(record)
        if isinstance(record.event, Progress | Retrying):
            _play(trial, scenes, end)
        if record.terminal:
            over.set()

    _play(trial, scenes, end)
    upstream = trial.another()
    async with Relay([upstream], sinks=[move_on], clock=LoopClock(), notify=lambda _: None) as relay:
        relay.follow(upstream.name, trial.bodies.task)
        try:
            async with asyncio.timeout(LONGEST * len(troubles) * 2):
                await over.wait()
        except TimeoutError:
            raise BrokenLawError(f"the job did not end; its last word was {records[-1].event.text!r}") from None
        sent = len(trial.server.requests)
        await asyncio.sleep(10 * trial.upstream.interval)
    if len(trial.server.requests) > sent:
        raise BrokenLawError("the job has ended, and is polled all the same")
    return records


def _play(trial: Trial, scenes: list[ScriptedResponse], end: object) -> None:
    if scenes:
        trial.responds(scenes.pop(0))
    else:
        trial.answers(end)


CONDUCT_LAWS: Final[tuple[Law, ...]] = (redirects, secrecy, once, submits, bounds, cancelling, story)


def _traceback_of(verdict: Verdict) -> list[str]:
    """The whole text of an error, its causes included."""
    return traceback.format_exception(verdict) if isinstance(verdict, UpstreamError) else []


def _look(where: str, *texts: str) -> None:
    if any(TOKEN in text for text in texts):
        raise BrokenLawError(f"the token is revealed with {where}")
