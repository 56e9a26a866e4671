"""Jobs as requests name them."""

from http import HTTPStatus

from relay.errors import UnknownJobError
from relay.jobs import Job
from relay.relay import Relay
from web.problems import RequestError

__all__ = ["job_named"]


def job_named(relay: Relay, id: str) -> Job:
    """The job with this id. Raises UnknownJobError, and RequestError for what can be no id: it will never be known."""
    try:
        return relay.job(id)
    except UnknownJobError:
        if id.isprintable() and "/" not in id:
            raise
    raise RequestError(
        HTTPStatus.BAD_REQUEST, "a job's id has no slash and no control character; GET /v1/jobs lists them"
    )
