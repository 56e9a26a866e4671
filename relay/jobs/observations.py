"""Answers of an upstream: the vocabulary between its adapter and the state machine."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from relay.errors import UpstreamError
from relay.events import FailureKind, ProgressSource, Status

__all__ = ["STATUS_WORDS", "Answer", "Failure", "Observation", "Result", "folded", "normalised"]


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """The result of a finished job: files at *urls*, a *value*, which is any JSON value without secrets, or both.

    A job that brought neither has failed, as its upstream makes files; unless *fileless* says that a success of this
    upstream needs none: its jobs may be copies, trainings, messages sent.
    """

    urls: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    expires: datetime | None = None
    value: Any = None
    fileless: bool = False


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """Why a job has ended without a result."""

    kind: FailureKind | Literal["cancelled"]
    message: str
    retryable: bool = False


class Observation(Struct, frozen=True, kw_only=True, gc=False):
    """One answer about one task. Nothing in it is inferred: a field that the upstream left out is None.

    *percent* is 0 to 100, rounded; *raw_percent* is the figure as it was sent, if it could not be used as it was.
    *log* is what the upstream's log has gained, or, with a *log_offset*, all of it but for that many lines before: then
    only the lines that are not published yet are, so that an adapter need not remember its reading. *warning* says
    what is odd about an answer that can be read all the same; each is published once a job. A *result* or a *failure*
    ends the job; the result of a `succeeded` without one is fetched. *poll_after* is in seconds, if the upstream named
    a time for the next poll.
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
    """One answer of an upstream: how many jobs it listed, and an observation of each task that was polled.

    A task that is missing from *tasks* was not mentioned. An UpstreamError stands for a task that could not be read.

    An answer that may be a part of the whole, such as one page of a list, is *partial*: a task that is missing from it
    may exist all the same. With *since* it holds all that is newer than that. *poll_after* is in seconds, if the
    upstream named a time for the next poll; it is for the tasks that are missing, as each observation has its own.
    """

    listed: int
    tasks: Mapping[str, Observation | UpstreamError]
    partial: bool = False
    since: datetime | None = None
    poll_after: float | None = None


_Words: TypeAlias = Mapping[str, Status]

STATUS_WORDS: Final[_Words] = {
    **dict.fromkeys(("queued", "pending", "submitted", "not_start", "not_started", "created", "preparing"), "queued"),
    **dict.fromkeys(("preprocessing", "in_queue", "queueing", "queuing", "enqueued", "waiting"), "queued"),
    **dict.fromkeys(("scheduled", "accepted", "received", "sent", "wait", "validating", "validated"), "queued"),
    **dict.fromkeys(("runnable", "requested", "initializing", "provisioning", "new"), "queued"),
    **dict.fromkeys(("running", "processing", "in_progress", "progress", "progressing", "generating"), "running"),
    **dict.fromkeys(("started", "starting", "active", "working", "rendering", "retry", "cancelling"), "running"),
    **dict.fromkeys(("run", "executing", "finalizing", "completing", "stopping", "canceling", "uploading"), "running"),
    **dict.fromkeys(("succeeded", "completed", "complete", "success", "succeed", "successful"), "succeeded"),
    **dict.fromkeys(("finished", "done", "ready", "partially_succeeded", "completed_with_errors"), "succeeded"),
    **dict.fromkeys(("failed", "failure", "fail", "error", "errored", "expired", "timeout", "timed_out"), "failed"),
    **dict.fromkeys(("content_moderated", "request_moderated", "rejected", "failed_validation"), "failed"),
    **dict.fromkeys(("node_fail", "out_of_memory", "boot_fail", "exception"), "failed"),
    **dict.fromkeys(("create_task_failed", "generate_audio_failed", "sensitive_word_error"), "failed"),
    **dict.fromkeys(("cancelled", "canceled", "aborted", "revoked", "stopped", "terminated"), "cancelled"),
}
"""The words that upstreams use, in lower case, and what they mean here. How a word is spelt does not matter."""

_SEPARATORS: Final = re.compile(r"[\s_.:/-]+")
_SUBJECTS: Final = frozenset({"job", "task", "state", "status", "run", "video", "image", "audio", "generation"})
"""What some APIs put before each of their words, as in JOB_STATE_RUNNING and video.completed."""


def folded(word: str) -> str:
    """*word* in the one spelling in which words are compared: `In Progress`, `in-progress` and `InProgress` are one."""
    if not any(map(str.isalpha, word)):
        # Some APIs number their states, and -1 is not 1.
        return word.strip()
    parts = [part for part in _SEPARATORS.split(word.casefold()) if part]
    while len(parts) > 1 and parts[0] in _SUBJECTS:
        del parts[0]
    return "".join(parts)


_FOLDED: Final[_Words] = {folded(word): status for word, status in STATUS_WORDS.items()}


_remembered: Final = lru_cache(maxsize=1_024)(folded)
_SHORT: Final = 64
"""The most characters of a word whose folding is remembered: each answer has the same few, for each job in a list."""


def normalised(word: str | None, words: _Words | None = None) -> Status:
    """The relay's word for an upstream's own *word*, in whatever spelling; *words* are the dialect's own, `folded`.

    `unknown` for one that is in neither *words* nor STATUS_WORDS, which is never an error.
    """
    if not word:
        return "unknown"
    key = _remembered(word) if len(word) <= _SHORT else folded(word)
    return (words or {}).get(key) or _FOLDED.get(key, "unknown")
