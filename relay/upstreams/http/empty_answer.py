"""The meaning of an answer without a body for the requested tasks."""

from collections.abc import Iterable
from http import HTTPStatus

from relay.jobs.observations import Answer, Observation
from relay.upstreams.http.reply import Reply

__all__ = ["without_a_list"]


def without_a_list(reply: Reply, tasks: Iterable[str]) -> Answer | None:
    """What an answer about *tasks* means that is no list but a status alone; None where *reply* has a document.

    202 says that all of them go on. 204, 205 and 304 say nothing of any: the list may be empty, or not be there yet.
    """
    if not reply.is_empty:
        return None
    if reply.status != HTTPStatus.ACCEPTED:
        return Answer(listed=0, tasks={}, partial=True, poll_after=reply.poll_after)
    running = Observation(status="running", poll_after=reply.poll_after)
    return Answer(listed=0, tasks=dict.fromkeys(tasks, running), partial=True, poll_after=reply.poll_after)
