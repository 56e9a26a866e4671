"""A submission: sent once, and never repeated by itself, since it may cost money; and how a failed one ends its job."""

import hashlib
from asyncio import current_task
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from relay.clock import Clock
from relay.errors import UpstreamError, UsageError
from relay.events import Accepted, Failed, FailureKind
from relay.notices import Notify, describe, interrupts, shown
from relay.polling.adapter_calls import call_adapter
from relay.text import TEXT_LIMIT, bounded, inert
from relay.upstreams.base import AcceptsWebhook, FindsSubmitted, Submits

__all__ = ["INTERRUPTED", "checked_key", "find_once_submitted", "input_digest", "submit_once"]

MAX_KEY: Final = 255

SEARCHES: Final = (0.0, 4.0, 8.0, 16.0)
"""Seconds before each look for a task whose submission broke off."""

INTERRUPTED: Final = "the relay stopped while submitting; whether the upstream took the job is not known"


async def submit_once(
    upstream: Submits, name: str, input: Mapping[str, Any], reference: str, url: str | None, notify: Notify
) -> str | Failed:
    """Submit *input* at *upstream*, once, and return the task's id, or how the job has failed.

    If the upstream has webhooks and there is a *url*, the input asks for a call of it; if its tasks can be found by a
    *reference*, it names that.
    """
    caller = current_task()
    try:
        if url is not None and isinstance(upstream, AcceptsWebhook):
            input = upstream.with_webhook(input, url)
        if isinstance(upstream, FindsSubmitted):
            input = upstream.with_reference(input, reference)
        return _checked_task(await upstream.submit(input))
    except UpstreamError as error:
        return _not_submitted(error)
    except UsageError as error:
        return Failed(kind="upstream", message=str(error))
    except BaseException as error:
        if interrupts(error, caller):
            raise
        notify(f"the adapter of upstream {name} failed to submit: {shown(error)}")
        return Failed(kind="internal", message=f"the adapter failed with {type(error).__name__}")


async def find_once_submitted(
    upstream: FindsSubmitted, name: str, reference: str, clock: Clock, notify: Notify
) -> Accepted | Failed:
    """The acceptance of the task with *reference*, whose submission broke off; that the job is lost if there is none.

    A task that is not there is looked for once more, since it may just have been made; errors are tried again for half
    a minute.
    """
    missed = 0
    for pause in SEARCHES:
        await clock.sleep(pause)
        try:
            task = await call_adapter(lambda: upstream.find_submitted(reference), name, notify)
        except UpstreamError:
            continue
        if task is not None:
            checked = _checked_task(task)
            return checked if isinstance(checked, Failed) else Accepted(upstream=name, task=checked)
        missed += 1
        if missed > 1:
            break
    return Failed(kind="lost", message=INTERRUPTED)


def checked_key(key: str) -> str:
    """*key*, if it can be the key of a submission. Raises UsageError."""
    if not (1 <= len(key) <= MAX_KEY and inert(key) == key):
        raise UsageError(f"an Idempotency-Key has 1 to {MAX_KEY} characters that print, in UTF-8")
    return key


def input_digest(upstream: str, input: Mapping[str, Any]) -> bytes:
    """The digest of a submission, whatever the order of its keys. Raises UsageError for what JSON cannot hold."""
    try:
        return hashlib.sha256(msgspec.json.encode([upstream, input], order="deterministic")).digest()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"the input cannot be sent as JSON: {describe(error)}") from None


def _checked_task(task: object) -> str | Failed:
    """The upstream's id of a task as it is, or how the job has failed if no record could hold it."""
    if isinstance(task, str) and task and bounded(task) == task:
        return task
    what = f"a text of {len(task):,} characters" if isinstance(task, str) else f"a {type(task).__name__}"
    return Failed(
        kind="malformed",
        message=f"submitted, but the upstream's id of the task is none that can be used: {what}"
        f" (an id is well-formed text of 1 to {TEXT_LIMIT:,} characters)",
    )


def _not_submitted(error: UpstreamError) -> Failed:
    """A submission that failed is not repeated: only a refusal proves that the upstream did not take the work.

    So does a connection that never came about. A status of 5xx, a timeout and an answer that breaks off prove nothing.
    """
    kinds: dict[str, FailureKind] = {
        "auth": "auth",
        "rate-limit": "rate-limit",
        "not-found": "not-found",
        "timeout": "timeout",
        "malformed": "malformed",
        "internal": "internal",
    }
    acted = error.acted
    if acted is None:
        acted = error.kind not in ("auth", "rate-limit", "not-found", "refused")
    doubt = "" if not acted else "; whether the upstream took the job is not known, and it is not submitted again"
    return Failed(
        kind=kinds.get(error.kind, "upstream"),
        message=f"not submitted: {error.message}{doubt}",
        retryable=error.kind in ("rate-limit", "auth") or (error.kind == "network" and not acted),
    )
