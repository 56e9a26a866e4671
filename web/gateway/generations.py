"""`/v1/video/generations`: jobs as the tasks of the gateway new-api, for clients that poll it."""

from typing import Any, Final

from aiohttp.web import Request, Response, StreamResponse, json_response

from relay import Done, Job, JobState
from sinks.answers import failure_code
from web.gateway.requests import about, created_at
from web.gateway.video_object import seconds_of, video_status
from web.gateway.videos import requested_job, submit_video, video_of

__all__ = ["create_generation", "show_generation"]

ROUTE: Final = "video"

_IMAGE: Final = "image"

_STATUSES: Final = {
    "queued": "QUEUED",
    "in_progress": "IN_PROGRESS",
    "completed": "SUCCESS",
    "failed": "FAILURE",
}


async def create_generation(request: Request) -> StreamResponse:
    """`POST /v1/video/generations`: as `create_video`, but the image of a request is its `image`."""
    return await submit_video(request, ROUTE, _IMAGE, shown=_created)


async def show_generation(request: Request) -> Response:
    """`GET /v1/video/generations/{video}`: the task as it is now, in the envelope of new-api."""
    job = requested_job(request)
    return json_response({"code": "success", "message": "", "data": _task(job)}, headers=about(job))


def _created(request: Request, job: Job) -> Response:
    return json_response(video_of(request, job) | {"task_id": job.id}, headers=about(job))


def _task(job: Job) -> dict[str, Any]:
    """The task; times are in whole seconds since 1970, and 0 for one that is yet to come."""
    state = job.state
    return {
        "task_id": job.id,
        "status": _STATUSES[video_status(state)],
        "progress": f"{state.percent or 0}%",
        "fail_reason": _reason(state),
        "result_url": next(iter(state.terminal.urls), "") if isinstance(state.terminal, Done) else "",
        "submit_time": created_at(job),
        "start_time": created_at(job),
        "finish_time": seconds_of(state.updated) if state.ended else 0,
    }


def _reason(state: JobState) -> str:
    """Why the job has no result; the code stands in the text, as there is no field for it."""
    terminal = state.terminal
    if terminal is None or isinstance(terminal, Done):
        return ""
    return f"{terminal.message or terminal.text} [{failure_code(terminal)}]"
