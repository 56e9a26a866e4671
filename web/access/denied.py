"""The refusal of a request by its access, before any handler has seen it."""

from http import HTTPStatus
from typing import Literal, TypeAlias

__all__ = ["DeniedError", "Reason", "insufficient", "unauthorized", "unavailable"]

Reason: TypeAlias = Literal["", "invalid_token", "invalid_request", "insufficient_scope"]
"""[spec] RFC 6750, 3.1; empty where no credential was presented."""


class DeniedError(Exception):
    """A request that may not do what it asks for; *detail* says what to do.

    *ambient*: the browser presents the credential by itself, as it does for an EventSource, which reads no status.
    *failed*: a credential was presented that is none, so that it counts as an attempt.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        reason: Reason = "",
        *,
        ambient: bool = False,
        failed: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason: Reason = reason
        self.ambient = ambient
        self.failed = failed
        self.headers: dict[str, str] = headers or {}


def unauthorized(detail: str, reason: Reason = "", *, ambient: bool = False, failed: bool = False) -> DeniedError:
    """A 401 with its challenge: `Bearer`, since a browser opens a dialog for `Basic`, and holds a stream meanwhile."""
    challenge = 'Bearer realm="relay"' + (f', error="{reason}"' if reason else "")
    return DeniedError(
        HTTPStatus.UNAUTHORIZED,
        detail,
        reason,
        ambient=ambient,
        failed=failed,
        headers={"WWW-Authenticate": challenge},
    )


def unavailable(detail: str, seconds: int) -> DeniedError:
    """A 503: the same request may be allowed in *seconds*."""
    return DeniedError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(seconds)})


def insufficient(scope: str) -> DeniedError:
    """The 403 for an access without *scope*."""
    return DeniedError(
        HTTPStatus.FORBIDDEN,
        f"this access does not have the scope {scope}",
        "insufficient_scope",
        headers={"WWW-Authenticate": f'Bearer realm="relay", error="insufficient_scope", scope="{scope}"'},
    )
