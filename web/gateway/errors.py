"""Errors in the form that clients of OpenAI-style endpoints read: `{"error": {message, type, code, param}}`."""

import json
from http import HTTPStatus
from typing import Final

from aiohttp.web import Request, Response

from relay import Job
from relay.text import bounded
from web.middleware.problems import DETAIL_LIMIT, RequestError, problem_response

__all__ = ["GatewayError", "after_acceptance", "error_response"]

_ROUTES: Final = frozenset({"chat", "models", "responses", "video", "videos"})
"""What stands behind `/v1/` in the path of a route of the gateway."""

_TYPES: Final = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}

_REPEATED: Final = (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
"""SDKs repeat a request that is answered 409 or 422, and each repetition may submit; none repeats one answered 400."""


class GatewayError(RequestError):
    """A refusal with a *code* for programs, and the *param* of the request that it is about."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.param = param


def after_acceptance(job: Job, detail: str, *, code: str) -> GatewayError:
    """The refusal of a request whose job was accepted: no client repeats it, and it names the job in every place.

    [measured] Status 400 is the one that no SDK repeats; `x-should-retry` is read by the SDKs of OpenAI alone.
    """
    headers = {"X-Relay-Job": job.id, "x-should-retry": "false"}
    return GatewayError(
        HTTPStatus.BAD_REQUEST, f"{detail} [{code}] (job {job.id})", code=code, param=job.id, headers=headers
    )


def error_response(request: Request, error: RequestError) -> Response:
    """The response for *error*: in this form on a route of the gateway, and as a problem on any other."""
    if not _is_of_gateway(request.path):
        return problem_response(error.status, error.detail, error.headers)
    status = HTTPStatus.BAD_REQUEST if error.status in _REPEATED else error.status
    usual = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    about: dict[str, str | None] = {
        "message": bounded(error.detail, DETAIL_LIMIT),
        "type": _TYPES.get(status, usual),
        "param": None,
        "code": HTTPStatus(status).phrase.lower().replace(" ", "_"),
    }
    if isinstance(error, GatewayError):
        about |= {"param": error.param, "code": error.code}
    return Response(
        status=status,
        body=json.dumps({"error": about}).encode("ascii"),
        content_type="application/json",
        headers=error.headers,
    )


def _is_of_gateway(path: str) -> bool:
    _, version, rest = path.partition("/v1/")
    return bool(version) and rest.partition("/")[0] in _ROUTES
