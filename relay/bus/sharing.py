"""What a bus on a journal that several nodes share asks of its node, and what may come of a draft."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from relay.jobs.state import Job
from relay.journal.base import StoredJob
from relay.journal.shared import Command, Fence

__all__ = ["Sharing", "TakenError"]


class TakenError(Exception):
    """Another *job* has what was to be unique: its key, or the task that it follows. Never shown to a client."""

    def __init__(self, job: str) -> None:
        super().__init__(f"{job} has it already")
        self.job = job


def _ignored(*_: object) -> None:
    """For a bus without a node about it."""


class Sharing(Struct, frozen=True, kw_only=True):
    """The node of a bus, as the functions that the bus calls on its own thread. None of them may raise.

    *before_append* alone is awaited and may raise JournalError; it is called again then.
    """

    fence: Callable[[str, str], Fence | None]
    """The right to append for a job, by its id and its upstream; None while this node does not have it."""

    find: Callable[[str], Job | None]
    """The job with this id, if it is known here."""

    learn: Callable[[StoredJob], Job]
    """Register a job that another node has accepted, or whose state an owner has carried over."""

    stored: Callable[[Job], StoredJob]
    """A job as the journal keeps it, with its key; its state is `Job.state`, and the bus replaces it."""

    before_append: Callable[[str], Awaitable[None]]
    """Awaited in a new epoch, which it is given, before anything is appended: carry over the jobs of this node."""

    refused: Callable[[Job, str], object] = _ignored
    """The journal has refused records of a job, as `fenced` or as a `hole`: what waited of the job is dropped."""

    unattended: Callable[[Job], object] = _ignored
    """A job that follows a task has come after its caller was refused: it is like any other, and is not polled yet."""

    command: Callable[[Command], object] = _ignored
    """A command has come by the tail."""
