"""Jobs over HTTP: follow, submit, show, list and cancel."""

import math
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp.web import Request, Response

from relay import ConflictError, Job, UnavailableError
from web.access.access import ACCESS
from web.access.addresses import client_of
from web.access.guard import GUARD
from web.access.use_log import USE_LOG
from web.app_keys import RELAY
from web.bodies import read_json
from web.middleware.client_limits import LIMITS
from web.middleware.problems import RequestError
from web.path_params import is_behind, job_named, seen_jobs
from web.state_snapshot import StateSnapshot
from web.streaming.keys import TURNS

__all__ = ["cancel_job", "create_job", "list_jobs", "show_job"]


class NewJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`task` follows an existing task; `input` submits a new one first."""

    upstream: str
    task: str | None = None
    input: dict[str, Any] | None = None


async def create_job(request: Request) -> Response:
    """`POST /v1/jobs`: 201 for a new job, 200 for a known one; both with `Location` and a snapshot.

    Where access is configured, the answer has `watch` as well: a link that opens the page for this job alone.
    """
    relay, owner = request.app[RELAY], request[ACCESS].subject
    new = await read_json(request, NewJob)
    if (new.task is None) == (new.input is None):
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "give either `task`, which is followed, or `input`, which is submitted"
        )
    key = _key(request)
    with request.app[LIMITS].start(client_of(request)) as start:
        if new.task is not None:
            known = relay.followed(new.upstream, new.task, owner)
            if key is not None and relay.submitted(key, owner) not in (None, known):
                raise ConflictError(f"the key {key!r} was used to submit another job; following a task needs no key")
            job = await relay.requests.follow(new.upstream, new.task, owner, admit=start)
        else:
            job = await relay.requests.submit(new.upstream, new.input or {}, key=key, owner=owner, admit=start)
        began = start.kept(job.id)
    if began:
        did = "submitted" if new.task is None else "follows"
        request.app[USE_LOG].used(request, f"{did} {job.id} at {new.upstream}")
    status = HTTPStatus.CREATED if began else HTTPStatus.OK
    body = {**msgspec.to_builtins(job.snapshot()), **_watch(request, job)}
    return _json(body, status, {"Location": _location(request, job)})


def _key(request: Request) -> str | None:
    """The `Idempotency-Key`. Raises RequestError for several: a retry might name another one first, and would submit
    the job again.
    """
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) > 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, "send one Idempotency-Key")
    return keys[0] if keys else None


async def list_jobs(request: Request) -> Response:
    """`GET /v1/jobs`: every job that the access sees, the upstreams, and the position from which a stream continues."""
    relay = request.app[RELAY]
    await request.app[TURNS].wait_turn()
    standing = StateSnapshot(relay.bus, seen_jobs(request))
    body = await standing.encoded(request.app[TURNS], {"upstreams": list(relay.upstreams)})
    return Response(body=body, content_type="application/json", charset="utf-8")


async def show_job(request: Request) -> Response:
    """`GET /v1/jobs/{job}`: its snapshot."""
    return _json((await _job(request)).snapshot())


async def cancel_job(request: Request) -> Response:
    """`POST /v1/jobs/{job}/cancel`: 202 and a snapshot, also if the job has already ended."""
    relay = request.app[RELAY]
    job = await relay.requests.cancel((await _job(request)).id)
    request.app[USE_LOG].used(request, f"cancelled {job.id}")
    return _json(job.snapshot(), HTTPStatus.ACCEPTED)


async def _job(request: Request) -> Job:
    """The job in the path. Raises as `job_named` does, and UnavailableError if another node may know it."""
    id = request.match_info["job"]
    if await is_behind(request, [id]):
        raise UnavailableError("this node cannot read at present what other nodes have published", retry_after=2.0)
    return job_named(request, id)


def _json(data: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status=status, body=msgspec.json.encode(data), content_type="application/json", charset="utf-8", headers=headers
    )


def _watch(request: Request, job: Job) -> dict[str, str]:
    guard = request.app[GUARD]
    if guard.open:
        return {}
    capability = guard.signer.sign_watch(job.id, math.ceil(guard.now() + guard.settings.watch_for))
    return {"watch": f"{guard.page(request)}#watch={capability}"}


def _location(request: Request, job: Job) -> str:
    return str(request.app.router["job"].url_for(job=job.id))
