"""Why a task has failed, in the upstream's own words."""

import json
import re
from collections.abc import Callable
from typing import Final, cast

from relay.events import Status
from relay.jobs.observations import Failure
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.values import is_something

__all__ = ["ended", "in_words"]

_POLICY: Final = re.compile(r"moderat|safety|polic(y|ies)|guideline|guardrail|violat", re.IGNORECASE)
"""What codes of a refusal by the rules on content have in common, and reasons where there is no code."""

_IN_WORDS: Final = ("message", "msg", "detail", "reason", "error", "description", "text")
"""Where an object that is a reason has it in words."""

_REASONS: Final = (
    *("error", "fail_reason", "failure_reason", "failure", "failed_reason", "reason", "error_message", "error_msg"),
    *("task_status_msg", "status_msg", "message", "msg", "detail"),
)
"""Where APIs say why a task has failed: gateways put it where another dialect has it."""


def ended(
    status: Status,
    word: str | None,
    redactor: Callable[[str], str],
    *,
    reason: object = None,
    code: object = None,
    answer: Fields | None = None,
) -> Failure | None:
    """How a task of this *status* has ended without a result, its words without secrets; None where it has not.

    *word* is the upstream's own for the status, *reason* why, and *code* the same for machines; without a reason, the
    *answer* itself is searched for one.
    """
    if status not in ("failed", "cancelled"):
        return None
    if answer is not None and not is_something(reason) and not is_something(code):
        reason = answer.first(*_REASONS)
    message = (
        in_words(reason, redactor) or in_words(code, redactor) or f"the upstream says {in_words(word, redactor)!r}"
    )
    if status == "cancelled":
        return Failure(kind="cancelled", message=message)
    if _POLICY.search(code if isinstance(code, str) and code else message):
        return Failure(kind="policy", message=message)
    return Failure(kind="upstream", message=message, retryable=True)


def in_words(reason: object, redactor: Callable[[str], str]) -> str:
    """A *reason* as text without secrets, empty where there is none; of an object, the part that is in words."""
    return redactor(_worded(reason) or json.dumps(reason)) if is_something(reason) else ""


def _worded(reason: object) -> str:
    """The part of *reason* that is in words, empty where none is."""
    match reason:
        case str():
            return reason
        case list():
            parts = cast("list[object]", reason)
            found = [_worded(part) for part in parts]
            return "; ".join(found) if all(found) else ""
        case dict():
            fields = cast("dict[str, object]", reason)
            return next((words for name in _IN_WORDS if (words := _worded(fields.get(name)))), "")
        case _:
            return ""
