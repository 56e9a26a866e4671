"""`POST /v1/chat/completions` and `GET /v1/models`: a job as a chat, in a stream of chunks or as one completion."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp.web import Request, Response, StreamResponse, json_response
from msgspec import Struct

from relay import Done, Job
from relay.events import Level
from sinks.answers import result_text
from sinks.chat import ChatChunks
from web.app_keys import OPTIONS, RELAY
from web.bodies import read_json
from web.gateway.errors import GatewayError
from web.gateway.gateway import GATEWAY
from web.gateway.job_stream import stream_job
from web.gateway.models import Model
from web.gateway.prompts import Message, prompt_of
from web.gateway.requests import about, created_at, refuse_new_work, requested_key, requested_level
from web.gateway.submissions import Attempt
from web.gateway.waiting import answer_at_end
from web.gateway.wire import ChatWire
from web.streaming.keys import TURNS
from web.streaming.resume import start_stream
from web.streaming.selection import Selection

__all__ = ["create_chat_completion", "list_models"]

ROUTE: Final = "chat"


class StreamOptions(Struct, frozen=True):
    """*include_usage*: whether the stream ends with a chunk of usage."""

    include_usage: bool | None = False


class ChatRequest(Struct, frozen=True):
    """The keys of a chat request that are read; every other one is passed over, since it is about a language model."""

    model: str
    messages: list[Message]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


class _Chat(Struct, frozen=True):
    """One chat about one job, as its request asks for it."""

    request: ChatRequest
    model: Model
    job: Job
    attempt: Attempt | None
    level: Level


async def list_models(request: Request) -> Response:
    """`GET /v1/models`: the models that a client may name."""
    models = [
        {"id": model.name, "object": "model", "created": 0, "owned_by": model.upstream}
        for model in request.app[GATEWAY].models
    ]
    return json_response({"object": "list", "data": models})


async def create_chat_completion(request: Request) -> StreamResponse:
    """Submit the last message of the user, and stream what the relay publishes about the job, or wait for its end.

    A request that repeats an earlier one joins its job (see `Submissions`). The job does not depend on the connection,
    unless [gateway] `cancel_on_disconnect` is set.
    """
    gateway = request.app[GATEWAY]
    asked = await read_json(request, ChatRequest)
    model = gateway.models.get(asked.model)
    if asked.n not in (None, 1):
        raise GatewayError(
            HTTPStatus.BAD_REQUEST, "a request makes one job; leave out `n`", code="invalid_n", param="n"
        )
    input, level = model.input_for(prompt_of(asked.messages)), requested_level(request, gateway.settings.level)
    refuse_new_work(request)
    key = requested_key(request, asked.user, asked.metadata)
    job, attempt = await gateway.submissions.submit(request, ROUTE, model.upstream, input, key)
    chat = _Chat(asked, model, job, attempt, level)
    return await (_stream if asked.stream else _complete)(request, chat)


async def _stream(request: Request, chat: _Chat) -> StreamResponse:
    """Stream the job from its first record, or behind the one that the client names in `Last-Event-ID`."""
    job, options = chat.job, chat.request.stream_options
    bus, selection = request.app[RELAY].bus, Selection([job])
    start = start_stream(bus, selection, request.headers.get("Last-Event-ID"))
    if start.finished:  # the client repeats its request for an ended job: it receives the whole once more
        start = start_stream(bus, selection, None)
    chunks = ChatChunks(
        job=job.id,
        created=created_at(job),
        model=chat.request.model,
        reasoning=chat.model.reasoning,
        task=job.state.task,
        usage=bool(options is not None and options.include_usage),
        level=chat.level,
    )
    wire = ChatWire(job, chunks, sign_after=request.app[OPTIONS].sign_of_life)
    return await stream_job(request, job, wire, start, chat.level, chat.attempt, tied=True)


async def _complete(request: Request, chat: _Chat) -> Response:
    """Wait for the end of the job, and answer with one completion, or with a typed error."""
    advice = f"follow GET /v1/jobs/{chat.job.id}/events, or send the request with `stream: true`"

    async def completed(done: Done) -> Response:
        lines = await _lines(request, chat.job, chat.level)
        return json_response(_completion(chat, done, lines), headers=about(chat.job))

    return await answer_at_end(request, chat.job, chat.attempt, completed, advice)


def _completion(chat: _Chat, done: Done, lines: str) -> dict[str, Any]:
    content = result_text(done)
    match chat.model.reasoning:
        case "content":
            message = {"content": f"{lines}{content}"}
        case "reasoning_content":
            message = {"content": content, "reasoning_content": lines}
        case _:
            message = {"content": content, "reasoning_content": lines, "reasoning": lines}
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "finish_reason": "stop",
        "native_finish_reason": "stop",
    }
    return {
        "id": f"chatcmpl-{chat.job.id}",
        "object": "chat.completion",
        "created": created_at(chat.job),
        "model": chat.request.model,
        "choices": [choice],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


async def _lines(request: Request, job: Job, level: Level) -> str:
    """The texts of the records that are kept, a line each: what a stream of this level holds."""
    journal, texts, after = request.app[RELAY].journal, list[str](), 0
    while True:
        await request.app[TURNS].wait_turn()
        records = journal.read(after, [job.id], level=level)
        if not records:
            return "".join(f"{text}\n" for text in texts)
        texts += [record.event.text for record in records]
        after = records[-1].position.offset
