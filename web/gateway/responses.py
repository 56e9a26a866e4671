"""`/v1/responses`: a job as a response in the background, as one object, or as a stream that resumes from any event."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp.web import Request, Response, StreamResponse, json_response
from msgspec import Struct

from relay import Done, Job, Position, Record, UnknownJobError
from relay.events import Level, at_least
from relay.text import bounded
from sinks.responses import STRIDE, ResponseEvents, ResponseStatus
from web.app_keys import OPTIONS, RELAY
from web.bodies import read_json
from web.gateway.errors import GatewayError
from web.gateway.gateway import GATEWAY
from web.gateway.job_stream import stream_job
from web.gateway.prompts import Message, prompt_of
from web.gateway.requests import about, created_at, refuse_new_work, requested_key, requested_level
from web.gateway.response_wire import ResponseWire, summary_so_far
from web.gateway.waiting import answer, answer_at_end, cancel_submitted
from web.path_params import seen_job
from web.streaming.handlers import STREAM_HEADERS
from web.streaming.keys import TURNS
from web.streaming.resume import start_stream
from web.streaming.selection import Selection

__all__ = ["cancel_response", "create_response", "show_response"]

ROUTE: Final = "responses"

PREFIX: Final = "resp_"
"""What the id of a response has before the id of its job."""

DIGITS: Final = 18
"""Digits of a `sequence_number` that is read."""


class Item(Struct, frozen=True):
    """One item of an input; those that are no message have no role, and are passed over."""

    role: str = ""
    content: str | list[Any] | None = None


class ResponseRequest(Struct, frozen=True):
    """The keys of a request that are read; every other one is passed over, since it is about a language model."""

    model: str
    input: str | list[Item]
    stream: bool | None = False
    background: bool | None = False
    user: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def messages(self) -> list[Message]:
        if isinstance(self.input, str):
            return [Message("user", self.input)]
        return [Message(item.role, item.content) for item in self.input]


class _View(Struct, frozen=True):
    """A response as one request reads it."""

    job: Job
    events: ResponseEvents
    level: Level


async def create_response(request: Request) -> StreamResponse:
    """`POST /v1/responses`: submit the last message of the user; answer at once, at the end, or with a stream.

    A request that repeats an earlier one joins its job (see `Submissions`). Each job runs in the background, and can be
    followed under its id; with [gateway] `cancel_on_disconnect`, one without `background` ends with its client.
    """
    gateway = request.app[GATEWAY]
    asked = await read_json(request, ResponseRequest)
    model = gateway.models.get(asked.model)
    input = model.input_for(prompt_of(asked.messages, "input"), images_at="input")
    level = requested_level(request, gateway.settings.level)
    refuse_new_work(request)
    key = requested_key(request, asked.user, asked.metadata)
    job, attempt = await gateway.submissions.submit(request, ROUTE, model.upstream, input, key)
    view = _view(job, asked.model, level)
    if asked.stream:
        start = start_stream(request.app[RELAY].bus, Selection([job]), None)
        wire = _wire(request, view)
        return await stream_job(request, job, wire, start, level, attempt, tied=not asked.background)

    async def now(*_: Done) -> Response:
        return json_response(_state(request, view), headers=about(job))

    if asked.background:
        return await answer(request, attempt, now)
    advice = f"read GET /v1/responses/{PREFIX}{job.id}, or send the request with `background: true`"
    return await answer_at_end(request, job, attempt, now, advice)


async def show_response(request: Request) -> StreamResponse:
    """`GET /v1/responses/{id}`: the response as it is now; with `stream=true`, its events behind `starting_after`.

    There is no limit of time: a stream resumes as long as the journal keeps the job.
    """
    job = _job(request)
    view = _view_of(request, job)
    if request.query.get("stream", "").lower() != "true":
        await request.app[TURNS].wait_turn()
        return json_response(_state(request, view), headers=about(job))
    after = _starting_after(request, job)
    refuse_new_work(request)
    if request.method == "HEAD":
        return Response(headers={**STREAM_HEADERS, **about(job), "Content-Type": ResponseWire.content_type})
    known, record = await _place(request, job, after // STRIDE) if after >= STRIDE else (None, None)
    start = start_stream(request.app[RELAY].bus, Selection([job]), str(known) if known is not None else None)
    return await stream_job(request, job, _wire(request, view, after, record), start, view.level, None, tied=False)


async def cancel_response(request: Request) -> Response:
    """`POST /v1/responses/{id}/cancel`: cancel the job; the answer is the response as it is then."""
    job = _job(request)
    view = _view_of(request, job)
    await cancel_submitted(request, job)
    return json_response(_state(request, view), headers=about(job))


def _job(request: Request) -> Job:
    """The job of the response that the path names. Raises GatewayError (404)."""
    id = request.match_info["response"]
    try:
        return seen_job(request, id.removeprefix(PREFIX))
    except UnknownJobError:
        raise GatewayError(
            HTTPStatus.NOT_FOUND,
            f"no response {bounded(id, 64)!r} is known here; it was never created, or is no longer kept",
            code="response_not_found",
            param="response_id",
        ) from None


def _view(job: Job, model: str, level: Level) -> _View:
    return _View(job, ResponseEvents(job=job.id, created=created_at(job), model=model), level)


def _view_of(request: Request, job: Job) -> _View:
    """The view of a request that names no model, for which the first one of the job's upstream stands."""
    gateway = request.app[GATEWAY]
    model = gateway.models.name_for(job.state.upstream)
    return _view(job, model, requested_level(request, gateway.settings.level))


def _state(request: Request, view: _View) -> dict[str, Any]:
    """The response as it is now."""
    state = view.job.state
    summary = summary_so_far(view.job, request.app[RELAY].journal, view.level)
    if state.terminal is not None:
        return view.events.ended(state.terminal, summary)
    status: ResponseStatus = "queued" if state.status == "queued" else "in_progress"
    return view.events.running(status, summary, state.percent)


def _starting_after(request: Request, job: Job) -> int:
    """The number of the last event that the client has, or -1. Raises GatewayError for what cannot be one."""
    text = request.query.get("starting_after", "")
    if not text:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS) or int(text) >= (job.state.seq + 1) * STRIDE:
        raise GatewayError(
            HTTPStatus.BAD_REQUEST,
            "`starting_after` is the sequence_number of an event of this response",
            code="invalid_starting_after",
            param="starting_after",
        )
    return int(text)


async def _place(request: Request, job: Job, seq: int) -> tuple[Position, Record | None]:
    """The record of *job* with this *seq*, and its position; if it is not kept, the position from which a stream has
    every record behind it, or reports that some are missing.
    """
    journal, after = request.app[RELAY].journal, 0
    while records := journal.read(after, [job.id]):
        first, last = records[0], records[-1]
        if seq == first.seq - 1:
            return Position(journal.epoch, first.position.offset - 1), None
        if first.seq <= seq <= last.seq:
            record = records[seq - first.seq]
            return record.position, record
        if seq < first.seq:
            break
        after = last.position.offset
        await request.app[TURNS].wait_turn()
    return Position(journal.epoch, 0), None


def _wire(request: Request, view: _View, after: int = -1, record: Record | None = None) -> ResponseWire:
    """*record* is that of the event with the number *after*; the rest of it is sent first, if it is of the level."""
    sent = record is not None and (record.terminal or at_least(record.event.level, view.level))
    return ResponseWire(
        view.job,
        view.events,
        request.app[RELAY].journal,
        view.level,
        after=after,
        resumed=record if sent else None,
        sign_after=request.app[OPTIONS].sign_of_life,
    )
