"""Answers that are no stream: at once, or once the job has ended, after [gateway] `wait` at the latest."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp.web import Request, Response

from relay import Done, Job
from relay.events import Cancelled, Failed
from sinks.answers import failure_code
from web.access.use_log import USE_LOG
from web.app_keys import RELAY
from web.gateway.errors import GatewayError, after_acceptance, error_response
from web.gateway.gateway import GATEWAY, Gateway
from web.gateway.requests import send
from web.gateway.submissions import Attempt
from web.gateway.wire import SHUTTING_DOWN

__all__ = ["answer", "answer_at_end", "cancel_submitted"]

SUBMITTED_WITHIN: Final = 30.0
"""Seconds that a cancellation waits for a job which is still being submitted."""


async def answer_at_end(
    request: Request, job: Job, attempt: Attempt | None, completed: Callable[[Done], Awaitable[Response]], advice: str
) -> Response:
    """Answer with the result of *job* once it has ended, as *completed* encodes it, or with a typed error.

    The wait lasts [gateway] `wait` seconds at most; *advice* says how a client follows the job after that.
    """
    gateway = request.app[GATEWAY]
    gateway.departures.came(job)

    async def ended() -> Response:
        await gateway.wait_for_end(job, gateway.settings.wait)
        terminal = job.state.terminal
        if isinstance(terminal, Done):
            return await completed(terminal)
        return error_response(request, _refusal(gateway, job, terminal, advice))

    try:
        return await answer(request, attempt, ended)
    finally:
        gateway.departures.left(job, shutting_down=gateway.closing)


async def answer(request: Request, attempt: Attempt | None, make: Callable[[], Awaitable[Response]]) -> Response:
    """Send the response that *make* returns, here and not in aiohttp: so it is known whether it can have arrived."""
    whole = False
    try:
        response = await make()
        whole = await send(request, response)
    finally:
        request.app[GATEWAY].submissions.end_answer(attempt, whole=whole)
    return response


def _refusal(gateway: Gateway, job: Job, terminal: Failed | Cancelled | None, advice: str) -> GatewayError:
    if terminal is not None:
        return after_acceptance(job, terminal.message or terminal.text, code=failure_code(terminal))
    if gateway.closing:
        message = SHUTTING_DOWN.format(job=job.id)
        return after_acceptance(job, message, code="relay_shutting_down")
    message = f"the job goes on after {gateway.settings.wait:g} s: {advice}"
    return after_acceptance(job, message, code="still_running")


async def cancel_submitted(request: Request, job: Job) -> None:
    """Cancel *job*, once it has a task: a client may cancel at once what it has just created.

    Raises GatewayError (400) if it is still being submitted after SUBMITTED_WITHIN, and whatever `Relay.cancel` raises.
    """
    if not job.ended and not await request.app[GATEWAY].wait_for_task(job, SUBMITTED_WITHIN):
        message = "the job is still being submitted, and can be cancelled after that"
        raise after_acceptance(job, message, code="still_submitting")
    await request.app[RELAY].requests.cancel(job.id)
    request.app[USE_LOG].used(request, f"cancelled {job.id}")
