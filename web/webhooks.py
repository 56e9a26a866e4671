"""Webhooks of upstreams: an authentic one wakes the poller, and its content is not used for anything else."""

from http import HTTPStatus

from aiohttp.web import Request, Response, json_response

from relay import UnknownJobError
from relay.webhooks import challenge
from web.app_keys import RELAY
from web.bodies import read_body
from web.middleware.problems import RequestError

__all__ = ["receive_webhook"]


async def receive_webhook(request: Request) -> Response:
    """`POST /v1/webhooks/{upstream}/{job}/{token}`: 204, and the job is polled at once.

    Every refusal is the same 401, so that a caller cannot guess jobs, upstreams or secrets.
    """
    relay, way = request.app[RELAY], request.match_info
    refused = RequestError(
        HTTPStatus.UNAUTHORIZED, "this call does not prove where it comes from", {"WWW-Authenticate": "Callback"}
    )
    webhooks = relay.webhooks
    if webhooks is None or not webhooks.allows(way["upstream"], way["job"], way["token"]):
        raise refused
    body = await read_body(request)
    if not webhooks.genuine(way["upstream"], request.headers, body):
        raise refused
    try:
        state = relay.bus.pending(relay.job(way["job"]))
    except UnknownJobError:
        raise refused from None
    if (echoed := challenge(body)) is not None:
        return json_response({"challenge": echoed})
    if state.task is not None:
        await relay.requests.wake(state.upstream, state.task)
    return Response(status=HTTPStatus.NO_CONTENT)
