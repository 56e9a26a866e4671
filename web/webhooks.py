"""Calls from upstreams: one that proves where it comes from wakes the poller, and is not looked at any further."""

from http import HTTPStatus

from aiohttp.web import Request, Response, json_response

from relay.callbacks import challenge
from relay.errors import UnknownJobError
from web.bodies import read_body
from web.keys import RELAY
from web.problems import RequestError

__all__ = ["take_call"]


async def take_call(request: Request) -> Response:
    """`POST /v1/webhooks/{upstream}/{job}/{token}`: 204, and the job is polled at once.

    Whatever is wrong with a call, the answer is the same 401: neither jobs nor upstreams nor secrets can be guessed at.
    """
    relay, way = request.app[RELAY], request.match_info
    refused = RequestError(
        HTTPStatus.UNAUTHORIZED, "this call does not prove where it comes from", {"WWW-Authenticate": "Callback"}
    )
    callbacks = relay.callbacks
    if callbacks is None or not callbacks.allows(way["upstream"], way["job"], way["token"]):
        raise refused
    body = await read_body(request)
    if not callbacks.genuine(way["upstream"], request.headers, body):
        raise refused
    try:
        state = relay.job(way["job"]).state
    except UnknownJobError:
        raise refused from None
    if (asked := challenge(body)) is not None:
        return json_response({"challenge": asked})
    if state.task is not None:
        relay.wake(state.upstream, state.task)
    return Response(status=HTTPStatus.NO_CONTENT)
