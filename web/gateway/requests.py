"""What a request of the gateway says beside its body, and what every answer about a job says."""

from http import HTTPStatus
from typing import Any

from aiohttp.web import Request, Response

from relay import Job
from relay.events import LEVELS, Level
from web.app_keys import OPTIONS
from web.gateway.errors import GatewayError
from web.gateway.gateway import GATEWAY
from web.streaming.handlers import refusal

__all__ = ["about", "created_at", "refuse_new_work", "requested_key", "requested_level", "send"]


def requested_key(request: Request, user: str | None = None, metadata: dict[str, Any] | None = None) -> str | None:
    """The key under which a repeated request is the same job: `Idempotency-Key`, or `user` and `metadata.job`.

    Raises GatewayError for several: a repetition might name another one first, and would submit again.
    """
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) > 1:
        raise GatewayError(HTTPStatus.BAD_REQUEST, "send one Idempotency-Key", code="idempotency_key")
    if keys:
        return keys[0]
    job = (metadata or {}).get("job")
    return f"user {user} {job}" if user and isinstance(job, str) and job else None


def requested_level(request: Request, default: Level) -> Level:
    """The level of `X-Relay-Level`, or *default*. Raises GatewayError for an unknown one."""
    value = request.headers.get("X-Relay-Level", default)
    for level in LEVELS:
        if level == value:
            return level
    raise GatewayError(HTTPStatus.BAD_REQUEST, f"X-Relay-Level is one of {', '.join(LEVELS)}", code="invalid_level")


def refuse_new_work(request: Request) -> None:
    """Raises GatewayError (503) while no client is served. Nothing is submitted then, so the client may repeat."""
    word = refusal(request)
    if word is None and request.app[GATEWAY].waiting >= request.app[OPTIONS].max_streams:
        word = "busy"
    if word is not None:
        reason = "the relay is shutting down" if word == "bye" else "too many streams are open"
        raise GatewayError(
            HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}; try again later", code=word, headers={"Retry-After": "5"}
        )


def created_at(job: Job) -> int:
    """When *job* was accepted, in whole seconds since 1970: the same in every answer about it."""
    started = job.state.started
    return int(started.timestamp()) if started is not None else 0


def about(job: Job) -> dict[str, str]:
    """The headers that name *job* before any body does."""
    return {"X-Relay-Job": job.id, "x-request-id": job.id}


async def send(request: Request, response: Response) -> bool:
    """Send *response* from within a handler. Returns whether the client can have received all of it."""
    await response.prepare(request)
    await response.write_eof()
    return request.transport is not None and not request.transport.is_closing()
