"""A submission: once, and never again by itself, since it may cost money; and what it means that it failed."""

from collections.abc import Mapping
from typing import Any, Final

from relay.errors import UpstreamError, UsageError
from relay.events import Failed, FailureKind
from relay.subscription import Notify
from relay.upstreams.base import CallsBack, Submits

__all__ = ["INTERRUPTED", "hand_in"]

INTERRUPTED: Final = "the relay stopped while submitting; whether the upstream took the job is not known"


async def hand_in(
    upstream: Submits, name: str, input: Mapping[str, Any], url: str | None, notify: Notify
) -> str | Failed:
    """Submit *input* at *upstream*, once: the task's id, or how the job has failed.

    Where the upstream can call back, it is asked to call *url*, if there is one.
    """
    try:
        if url is not None and isinstance(upstream, CallsBack):
            input = upstream.calling_back(input, url)
        return await upstream.submit(input)
    except UpstreamError as error:
        return _not_taken(error)
    except UsageError as error:
        return Failed(kind="upstream", message=str(error))
    except Exception as error:
        notify(f"the adapter of upstream {name} failed to submit: {error!r}")
        return Failed(kind="internal", message=f"the adapter failed with {type(error).__name__}")


def _not_taken(error: UpstreamError) -> Failed:
    """A submission that failed is not repeated: only a refusal proves that the upstream did not take the work."""
    kinds: dict[str, FailureKind] = {
        "auth": "auth",
        "rate-limit": "rate-limit",
        "not-found": "not-found",
        "timeout": "timeout",
        "malformed": "malformed",
        "internal": "internal",
    }
    sure = error.kind in ("auth", "rate-limit", "not-found", "refused")
    doubt = "" if sure else "; whether the upstream took the job is not known, and it is not submitted again"
    return Failed(
        kind=kinds.get(error.kind, "upstream"),
        message=f"not submitted: {error.message}{doubt}",
        retryable=error.kind in ("rate-limit", "auth"),
    )
