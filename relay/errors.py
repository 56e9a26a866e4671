"""The errors of the relay, split by whose fault they are. Every message says what to do."""

from typing import Literal, TypeAlias

__all__ = [
    "BusyError",
    "ConfigError",
    "ConflictError",
    "ErrorKind",
    "JournalError",
    "RelayError",
    "UnavailableError",
    "UnknownJobError",
    "UpstreamError",
    "UsageError",
]

ErrorKind: TypeAlias = Literal[
    "network", "timeout", "server", "rate-limit", "auth", "not-found", "malformed", "refused", "internal"
]
"""Why an upstream could not be understood.

`network`: no answer at all. `timeout`: none in time. `server`: its own failure (5xx). `rate-limit`: too many requests.
`auth`: the token was not accepted. `not-found`: no such thing there. `malformed`: an answer that is not in its dialect.
`refused`: it understood, and declined. `internal`: the adapter itself failed, which is not the upstream's fault.
"""


class RelayError(Exception):
    """The base of every error this project raises on purpose."""


class UsageError(RelayError):
    """The caller requested something that cannot be."""


class UnknownJobError(UsageError):
    """No job has this id: it never had one, or the journal no longer keeps it."""

    def __init__(self, job: str) -> None:
        super().__init__(f"no job {job!r} is known here; GET /v1/jobs lists those that are")
        self.job = job


class BusyError(UsageError):
    """A limit of this relay is reached; the same call may succeed later."""


class ConflictError(UsageError):
    """The request contradicts an earlier one, or the present state."""


class ConfigError(UsageError):
    """The configuration cannot be used as it is written."""


class JournalError(RelayError):
    """The journal cannot be read or written as it is; its contents are left untouched."""


class UnavailableError(RelayError):
    """The relay takes no new work just now; the same call may succeed in *retry_after* seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamError(RelayError):
    """The upstream did not answer, or answered with something that is no observation.

    An adapter raises it from `observe`, `fetch_result`, `submit` and `cancel`, and raises nothing else on purpose.

    *retry_after* is in seconds, where the upstream named a time. *acted* is false where it is certain that the upstream
    did not act on the request, true where it may have; None leaves that to the kind.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, retry_after: float | None = None, acted: bool | None = None
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.retry_after = retry_after
        self.acted = acted
