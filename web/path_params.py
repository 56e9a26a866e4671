"""The jobs that a request names in its path or query, or means by naming none: those that its access sees."""

from collections.abc import Iterable
from http import HTTPStatus

from aiohttp.web import Request

from relay import Job, Position, UnknownJobError
from web.access.access import ACCESS
from web.app_keys import RELAY
from web.middleware.problems import RequestError

__all__ = ["is_behind", "job_named", "knows_all", "seen_job", "seen_jobs"]


async def is_behind(request: Request, ids: Iterable[str], position: str | None = None) -> bool:
    """Whether the client knows something that this node of a cluster does not, and that it cannot learn just now.

    A client may come from another node, with the *ids* of jobs that are new, or a *position* that this node's copy of
    the journal has not reached. What the journal had at this moment is awaited then, for a few seconds at most.
    """
    cluster = request.app[RELAY].cluster
    if cluster is None or knows_all(request, ids, position):
        return False
    return not await cluster.catch_up()


def knows_all(request: Request, ids: Iterable[str], position: str | None = None) -> bool:
    """Whether this node has jobs with these *ids*, and its copy of the journal has reached *position*.

    Always true at a node that is alone, which knows whatever there is.
    """
    relay = request.app[RELAY]
    if relay.cluster is None:
        return True
    journal, claimed = relay.journal, Position.parse(position) if position else None
    reached = claimed is None or (claimed.epoch == journal.epoch and claimed.offset <= journal.head)
    return reached and all(relay.registry.find(id) is not None for id in ids)


def seen_job(request: Request, id: str) -> Job:
    """The job with this id. Raises UnknownJobError, also for a job that the access of *request* does not see."""
    job = request.app[RELAY].job(id)
    if not request[ACCESS].sees(job.id, job.owner):
        raise UnknownJobError(id)
    return job


def job_named(request: Request, id: str) -> Job:
    """As `seen_job`; raises RequestError for a text that can never be an id."""
    try:
        return seen_job(request, id)
    except UnknownJobError:
        if id.isprintable() and "/" not in id:
            raise
    raise RequestError(
        HTTPStatus.BAD_REQUEST, "a job's id has no slash and no control character; GET /v1/jobs lists them"
    )


def seen_jobs(request: Request) -> list[Job]:
    """Every job that the access of *request* sees, oldest first."""
    access, relay = request[ACCESS], request.app[RELAY]
    if access.sees_all:
        return relay.jobs()
    if access.jobs == "own":
        return relay.jobs(access.subject)
    return [job for job in relay.jobs() if job.id in access.jobs]
