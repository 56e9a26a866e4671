"""What nodes write to each other: requests for the owner of a job, their answers, and news for everybody. JSON."""

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from relay.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    ErrorKind,
    JournalError,
    RelayError,
    UnavailableError,
    UnknownJobError,
    UpstreamError,
    UsageError,
)
from relay.events import Accepted, Failed

__all__ = [
    "Announce",
    "Answer",
    "CancelJob",
    "FollowTask",
    "JobMessage",
    "Message",
    "ReleaseKey",
    "ReportSubmission",
    "SeekSubmission",
    "SubmitInput",
    "WakeJob",
    "answer_with",
    "decoded",
    "encoded",
    "outcome",
]


class FollowTask(Struct, frozen=True, tag="follow"):
    """Follow *task* as *job*, an id that falls into the shard; answered with the id of the job that follows it."""

    job: str
    upstream: str
    task: str
    owner: str


class SubmitInput(Struct, frozen=True, tag="submit"):
    """Submit *input* as *job*; answered with the id of the job that *key* stands for."""

    job: str
    upstream: str
    input: dict[str, Any]
    key: str | None
    owner: str


class CancelJob(Struct, frozen=True, tag="cancel"):
    """Cancel *job*; answered with its id once that is in the journal."""

    job: str


class WakeJob(Struct, frozen=True, tag="wake"):
    """There is news of *job*: poll it soon. No answer."""

    job: str


class ReleaseKey(Struct, frozen=True, tag="release"):
    """For everybody: *key* of *owner* no longer stands for *job*. No answer."""

    key: str
    owner: str
    job: str


class SeekSubmission(Struct, frozen=True, tag="seek"):
    """For everybody: the node that is submitting *job* reports that, and the outcome later. No other answer."""

    job: str


class ReportSubmission(Struct, frozen=True, tag="report"):
    """The *outcome* of the submission of *job*, from the node that made it; None while it is under way. No answer."""

    job: str
    outcome: Accepted | Failed | None


class Announce(Struct, frozen=True, tag="announce"):
    """For everybody: news for those above the cluster that wait for this *topic*. No answer."""

    topic: str
    what: dict[str, str]


JobMessage: TypeAlias = FollowTask | SubmitInput | CancelJob | WakeJob | ReleaseKey | SeekSubmission | ReportSubmission
Message: TypeAlias = JobMessage | Announce


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The *job* that a request has led to, or its error: *kind* is the name of its class."""

    job: str = ""
    kind: str = ""
    message: str = ""
    retry_after: float | None = None
    error: ErrorKind | None = None
    acted: bool | None = None


_MESSAGES: Final = msgspec.json.Decoder(Message)
_ANSWERS: Final = msgspec.json.Decoder(Answer)
_PLAIN: Final[dict[str, type[RelayError]]] = {
    kind.__name__: kind for kind in (UsageError, BusyError, ConflictError, ConfigError, JournalError)
}


def encoded(message: Message) -> bytes:
    """*message* as JSON."""
    return msgspec.json.encode(message)


def decoded(body: bytes) -> Message:
    """The message of *body*. Raises msgspec.MsgspecError for one that is none: a node of another version sent it."""
    message: Message = _MESSAGES.decode(body)
    return message


def answer_with(outcome: str | RelayError) -> bytes:
    """The answer that carries a job's id, or an error."""
    match outcome:
        case str(job):
            answer = Answer(job=job)
        case UnknownJobError(job=job):
            answer = Answer(job=job, kind="UnknownJobError")
        case UnavailableError(retry_after=seconds):
            answer = Answer(kind="UnavailableError", message=str(outcome), retry_after=seconds)
        case UpstreamError(kind=error, message=message, retry_after=seconds, acted=acted):
            answer = Answer(kind="UpstreamError", message=message, retry_after=seconds, error=error, acted=acted)
        case _:
            answer = Answer(kind=type(outcome).__name__, message=str(outcome))
    return msgspec.json.encode(answer)


def outcome(body: bytes) -> str:
    """The id of the job in an answer. Raises its error, of the class that the owner of the job has raised.

    Raises msgspec.MsgspecError for a body that is no answer.
    """
    answer = _ANSWERS.decode(body)
    match answer:
        case Answer(kind=""):
            return answer.job
        case Answer(kind="UnknownJobError"):
            raise UnknownJobError(answer.job)
        case Answer(kind="UnavailableError"):
            raise UnavailableError(answer.message, retry_after=answer.retry_after or 0.0)
        case Answer(kind="UpstreamError", error=str(error)):
            raise UpstreamError(error, answer.message, retry_after=answer.retry_after, acted=answer.acted)
        case _:
            raise _PLAIN.get(answer.kind, RelayError)(answer.message)
