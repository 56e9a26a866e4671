"""`/v1/videos`: jobs as videos, for clients that poll. Each job is one, also one that was started by another route."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp.web import Request, Response, StreamResponse, json_response

from relay import Done, Job
from web.app_keys import RELAY
from web.gateway.errors import GatewayError
from web.gateway.gateway import GATEWAY
from web.gateway.requests import about, requested_key, send
from web.gateway.video_object import VideoDetails, poll_after_ms, video_object
from web.gateway.video_requests import REFERENCE, read_video_request
from web.gateway.waiting import cancel_submitted
from web.path_params import job_named, seen_jobs
from web.streaming.keys import TURNS

__all__ = ["create_video", "delete_video", "list_videos", "requested_job", "show_video", "submit_video", "video_of"]

ROUTE: Final = "videos"

PAGE: Final = 20
PAGE_LIMIT: Final = 100


async def create_video(request: Request) -> StreamResponse:
    """`POST /v1/videos`: submit a job, and answer at once with its video.

    A request that repeats an earlier one joins its job (see `Submissions`). After the acceptance nothing is an error of
    the request any more: a refusal of the upstream is the `error` of the video.
    """
    return await submit_video(request, ROUTE, shown=_shown)


async def submit_video(
    request: Request, route: str, image: str = REFERENCE, *, shown: Callable[[Request, Job], Response]
) -> StreamResponse:
    """Submit the body of *request*, whose field *image* has the image, and send the job as *shown*.

    The answer is sent here, so that it is known whether the client can have received it.
    """
    gateway = request.app[GATEWAY]
    wanted = await read_video_request(request, image)
    model = gateway.models.get(wanted.model) if wanted.model is not None else gateway.models.only()
    input = model.input_for(wanted.prompt, wanted.more, images_at=image)
    job, attempt = await gateway.submissions.submit(request, route, model.upstream, input, requested_key(request))
    gateway.videos[job] = VideoDetails(model=model.name, seconds=wanted.seconds, size=wanted.size)
    response, whole = shown(request, job), False
    try:
        whole = await send(request, response)
    finally:
        gateway.submissions.end_answer(attempt, whole=whole)
    return response


async def show_video(request: Request) -> Response:
    """`GET /v1/videos/{video}`: the video as it is now, and when to poll it again."""
    return _shown(request, requested_job(request))


async def list_videos(request: Request) -> Response:
    """`GET /v1/videos`: the newest first, or with `order=asc` the oldest, from behind `after` on."""
    limit, ascending = _limit(request), _is_ascending(request)
    await request.app[TURNS].wait_turn()
    jobs = seen_jobs(request)
    if not ascending:
        jobs.reverse()
    start = 0
    if (after := request.query.get("after")) is not None:
        start = jobs.index(job_named(request, after)) + 1
    page = jobs[start : start + limit]
    return json_response(
        {
            "object": "list",
            "data": [video_of(request, job) for job in page],
            "has_more": start + limit < len(jobs),
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
    )


async def delete_video(request: Request) -> Response:
    """`DELETE /v1/videos/{video}`: cancel a job that runs.

    `deleted` is whether there is no video: it is false for a completed one, since the relay cannot delete the file of
    an upstream, and the record of a job stays as long as the journal keeps it.
    """
    job = requested_job(request)
    await cancel_submitted(request, job)
    deleted = not isinstance(job.state.terminal, Done)
    return json_response({"id": job.id, "object": "video.deleted", "deleted": deleted}, headers=about(job))


def requested_job(request: Request) -> Job:
    """The job that the path names by its id. Raises UnknownJobError."""
    return job_named(request, request.match_info["video"])


def _shown(request: Request, job: Job) -> Response:
    headers = about(job)
    wait = poll_after_ms(job.state, request.app[RELAY].pace(job.state.upstream))
    if wait is not None:
        headers["openai-poll-after-ms"] = str(wait)
    return json_response(video_of(request, job), headers=headers)


def video_of(request: Request, job: Job) -> dict[str, Any]:
    """The object of *job*, with the details of its request as far as they are known."""
    gateway = request.app[GATEWAY]
    # A job of another route, or from before a restart, was requested without such details.
    details = gateway.videos.get(job) or VideoDetails(model=gateway.models.name_for(job.state.upstream))
    return video_object(job, details)


def _limit(request: Request) -> int:
    text = request.query.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _refused("`limit` is a number of videos", "limit")
    return min(max(1, int(text)), PAGE_LIMIT)


def _is_ascending(request: Request) -> bool:
    order = request.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise _refused("`order` is asc or desc", "order")
    return order == "asc"


def _refused(detail: str, param: str) -> GatewayError:
    return GatewayError(HTTPStatus.BAD_REQUEST, detail, code="invalid_value", param=param)
