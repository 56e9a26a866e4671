"""What an upstream said: the vocabulary between its adapter and the state machine."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from relay.errors import UpstreamError
from relay.events import FailureKind, ProgressSource, Status

__all__ = ["STATUS_WORDS", "Answer", "Failure", "Observation", "Result", "normalised"]


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """Where a finished job's files are."""

    urls: tuple[str, ...]
    media_types: tuple[str, ...] = ()
    expires: datetime | None = None


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """Why a job has ended without a result."""

    kind: FailureKind | Literal["cancelled"]
    message: str
    retryable: bool = False


class Observation(Struct, frozen=True, kw_only=True, gc=False):
    """What one answer says about one task. Nothing in it is inferred: what the upstream left out is None.

    *percent* is 0 to 100, rounded; *raw_percent* is what was sent, where that could not be used as it was.
    *log* is what the upstream's log has gained, or, with a *log_offset*, all of it but for that many lines before: then
    only those lines are told that were not told yet, so that an adapter need not remember what it has read.
    *warning* is what is odd about an answer that can be read all the same; of a job it is told once. A *result* or a
    *failure* ends the job; a `succeeded` without a result has its result fetched. *poll_after* is in seconds, where the
    upstream said when to ask again.
    """

    status: Status
    raw_status: str | None = None
    percent: int | None = None
    source: ProgressSource | None = None
    raw_percent: str | None = None
    queue_position: int | None = None
    eta: float | None = None
    log: tuple[str, ...] = ()
    log_offset: int | None = None
    result: Result | None = None
    failure: Failure | None = None
    poll_after: float | None = None
    warning: str | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """One answer of an upstream: how many jobs it told of, and what it said about those that were asked for.

    A task that is missing from *tasks* was not mentioned. An UpstreamError stands for a task that could not be read.
    """

    listed: int
    tasks: Mapping[str, Observation | UpstreamError]


_Words: TypeAlias = dict[str, Status]

STATUS_WORDS: _Words = {
    **dict.fromkeys(("queued", "pending", "submitted", "not_start", "preparing", "preprocessing", "created"), "queued"),
    **dict.fromkeys(("in_queue", "queueing"), "queued"),
    **dict.fromkeys(("running", "processing", "in_progress", "generating", "started", "starting"), "running"),
    **dict.fromkeys(("succeeded", "completed", "success", "succeed", "finished"), "succeeded"),
    **dict.fromkeys(("failed", "failure", "fail", "error", "expired"), "failed"),
    **dict.fromkeys(("cancelled", "canceled", "aborted"), "cancelled"),
}
"""The words that upstreams use, in lower case, and what they mean here."""


def normalised(word: str | None) -> Status:
    """The relay's word for an upstream's; `unknown` for one that is not in STATUS_WORDS, which is never an error."""
    return STATUS_WORDS.get(word.strip().lower(), "unknown") if word else "unknown"
