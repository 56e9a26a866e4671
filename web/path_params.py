"""The job that a request names in its path or query."""

from http import HTTPStatus

from relay import Job, Relay, UnknownJobError
from web.middleware.problems import RequestError

__all__ = ["job_named"]


def job_named(relay: Relay, id: str) -> Job:
    """The job with this id. Raises UnknownJobError, and RequestError for a text that can never be an id."""
    try:
        return relay.job(id)
    except UnknownJobError:
        if id.isprintable() and "/" not in id:
            raise
    raise RequestError(
        HTTPStatus.BAD_REQUEST, "a job's id has no slash and no control character; GET /v1/jobs lists them"
    )
