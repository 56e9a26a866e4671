"""Jobs over HTTP: follow, submit, show, list and cancel."""

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp.web import Request, Response

from relay import ConflictError, Job
from web.app_keys import RELAY
from web.bodies import read_json
from web.middleware.client_limits import LIMITS, client_of
from web.middleware.problems import RequestError
from web.path_params import job_named
from web.state_snapshot import StateSnapshot
from web.streaming.keys import TURNS

__all__ = ["cancel_job", "create_job", "list_jobs", "show_job"]


class NewJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`task` follows an existing task; `input` submits a new one first."""

    upstream: str
    task: str | None = None
    input: dict[str, Any] | None = None


async def create_job(request: Request) -> Response:
    """`POST /v1/jobs`: 201 for a new job, 200 for a known one; both with `Location` and a snapshot."""
    relay = request.app[RELAY]
    limits, client = request.app[LIMITS], client_of(request)
    new = await read_json(request, NewJob)
    if (new.task is None) == (new.input is None):
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "give either `task`, which is followed, or `input`, which is submitted"
        )
    key = _key(request)
    if new.task is not None:
        known = relay.followed(new.upstream, new.task)
        if key is not None and relay.submitted(key) not in (None, known):
            raise ConflictError(f"the key {key!r} was used to submit another job; following a task needs no key")
        if known is None:
            limits.check(client)
        job = relay.follow(new.upstream, new.task)
    else:
        known = relay.submitted(key) if key is not None else None
        if known is None:
            limits.check(client)
        job = relay.submit(new.upstream, new.input or {}, key=key)
    if known is None:
        limits.record_start(client, job.id)
    status = HTTPStatus.CREATED if known is None else HTTPStatus.OK
    return _json(job.snapshot(), status, {"Location": _location(request, job)})


def _key(request: Request) -> str | None:
    """The `Idempotency-Key`. Raises RequestError for several: a retry might name another one first, and would submit
    the job again.
    """
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) > 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "send one Idempotency-Key")
    return keys[0] if keys else None


async def list_jobs(request: Request) -> Response:
    """`GET /v1/jobs`: every job, the names of the upstreams, and the position from which a stream continues."""
    relay = request.app[RELAY]
    await request.app[TURNS].wait_turn()
    standing = StateSnapshot(relay.bus, relay.jobs())
    body = await standing.encoded(request.app[TURNS], {"upstreams": list(relay.upstreams)})
    return Response(body=body, content_type="application/json", charset="utf-8")


async def show_job(request: Request) -> Response:
    """`GET /v1/jobs/{job}`: its snapshot."""
    return _json(job_named(request.app[RELAY], request.match_info["job"]).snapshot())


async def cancel_job(request: Request) -> Response:
    """`POST /v1/jobs/{job}/cancel`: 202 and a snapshot, also if the job has already ended."""
    relay = request.app[RELAY]
    job = await relay.cancel(job_named(relay, request.match_info["job"]).id)
    return _json(job.snapshot(), HTTPStatus.ACCEPTED)


def _json(data: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status=status, body=msgspec.json.encode(data), content_type="application/json", charset="utf-8", headers=headers
    )


def _location(request: Request, job: Job) -> str:
    return str(request.app.router["job"].url_for(job=job.id))
