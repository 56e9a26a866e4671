"""Jobs over HTTP: follow, submit, look at, call off."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp.web import Request, Response

from relay.events import Position
from relay.jobs import Job
from web.bodies import read_body
from web.keys import RELAY
from web.naming import job_named
from web.problems import RequestError

__all__ = ["cancel_job", "create_job", "list_jobs", "show_job"]

KEY_LIMIT: Final = 255


class NewJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`task` follows what exists; `input` submits it first."""

    upstream: str
    task: str | None = None
    input: dict[str, Any] | None = None


async def create_job(request: Request) -> Response:
    """`POST /v1/jobs`: 201 for a new job, 200 for one that is known already; `Location` and a snapshot with both."""
    relay = request.app[RELAY]
    new = await _read(request)
    if (new.task is None) == (new.input is None):
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "give either `task`, which is followed, or `input`, which is submitted"
        )
    if new.task is not None:
        known = relay.followed(new.upstream, new.task)
        job = relay.follow(new.upstream, new.task)
    else:
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 1 <= len(key) <= KEY_LIMIT:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"an Idempotency-Key has 1 to {KEY_LIMIT} characters")
        known = relay.submitted(key) if key is not None else None
        job = relay.submit(new.upstream, new.input or {}, key=key)
    status = HTTPStatus.CREATED if known is None else HTTPStatus.OK
    return _snapshot(request, job, status, {"Location": _location(request, job)})


async def list_jobs(request: Request) -> Response:
    """`GET /v1/jobs`: every job, what upstreams there are, and the position from which a stream goes on."""
    relay = request.app[RELAY]
    position = Position(relay.journal.epoch, relay.journal.head)
    return _json(
        {
            "position": str(position),
            "upstreams": list(relay.upstreams),
            "jobs": [relay.bus.as_told(job).snapshot() for job in relay.jobs()],
        }
    )


async def show_job(request: Request) -> Response:
    """`GET /v1/jobs/{job}`: its snapshot."""
    return _snapshot(request, job_named(request.app[RELAY], request.match_info["job"]), HTTPStatus.OK)


async def cancel_job(request: Request) -> Response:
    """`POST /v1/jobs/{job}/cancel`: 202 and a snapshot, also where the job has ended before."""
    relay = request.app[RELAY]
    job = await relay.cancel(job_named(relay, request.match_info["job"]).id)
    return _snapshot(request, job, HTTPStatus.ACCEPTED)


async def _read(request: Request) -> NewJob:
    if request.content_type != "application/json":
        # A page of another origin cannot send this type without being asked first, so a form cannot start paid work.
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json")
    try:
        return msgspec.json.decode(await read_body(request), type=NewJob)
    except msgspec.ValidationError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


def _snapshot(request: Request, job: Job, status: HTTPStatus, headers: dict[str, str] | None = None) -> Response:
    """No answer is ahead of the streams."""
    return _json(request.app[RELAY].bus.as_told(job).snapshot(), status, headers)


def _json(data: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status=status, body=msgspec.json.encode(data), content_type="application/json", charset="utf-8", headers=headers
    )


def _location(request: Request, job: Job) -> str:
    return str(request.app.router["job"].url_for(job=job.id))
