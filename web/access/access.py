"""What a request may do: one small object, whichever way it was proved."""

from typing import Final, Literal, TypeAlias

from aiohttp.web import RequestKey
from msgspec import Struct

from relay import UsageError
from relay.config.access import SCOPES

__all__ = ["ACCESS", "ANYBODY", "SUBJECT_LIMIT", "Access", "Jobs", "Scope", "is_subject"]

Scope: TypeAlias = Literal["jobs:read", "jobs:submit", "jobs:cancel", "operate"]

Jobs: TypeAlias = Literal["own", "*"] | frozenset[str]
"""`own`: the jobs that the subject submitted or follows. `*`: all. Otherwise the ids of the jobs."""

SUBJECT_LIMIT: Final = 256

_SCOPES: Final = frozenset(SCOPES)


def is_subject(text: str) -> bool:
    """Whether *text* can name a subject: 1 to SUBJECT_LIMIT characters that print."""
    return 1 <= len(text) <= SUBJECT_LIMIT and text.isprintable()


class Access(Struct, frozen=True, kw_only=True):
    """What a request may do, and for whom.

    *subject* is the owner of the jobs that are submitted with it; two ways in that name one subject share these. With
    `operate` among the *scopes*, all *jobs* are seen. *expires* is in seconds since 1970; a stream ends then. *renew*:
    the seconds after which a stream is renewed, so that its client proves its access again. *credential* names what
    proved it, so that it can be revoked; it is no secret.

    Raises UsageError for an unknown scope, and for a subject without a name, unless it sees all jobs.
    """

    subject: str
    scopes: frozenset[str] = frozenset({"jobs:read"})
    jobs: Jobs = "own"
    expires: float | None = None
    renew: float | None = None
    credential: str = ""

    def __post_init__(self) -> None:
        if not (is_subject(self.subject) or (self.subject == "" and self.jobs == "*")):
            raise UsageError(f"a subject is 1 to {SUBJECT_LIMIT} characters that print")
        if not self.scopes <= _SCOPES:
            raise UsageError(f"there is no scope {min(self.scopes - _SCOPES)!r}; scopes are {', '.join(SCOPES)}")

    @property
    def sees_all(self) -> bool:
        """Whether it sees every job."""
        return self.jobs == "*" or "operate" in self.scopes

    def allows(self, scope: Scope) -> bool:
        """Whether it has *scope*; `operate` includes reading."""
        return scope in self.scopes or (scope == "jobs:read" and "operate" in self.scopes)

    def sees(self, job: str, owner: str) -> bool:
        """Whether it sees the job with the id *job*, which belongs to *owner*."""
        if self.sees_all:
            return True
        return owner == self.subject if self.jobs == "own" else job in self.jobs


ANYBODY: Final = Access(subject="", scopes=frozenset(SCOPES), jobs="*")
"""The access of every request where none is configured: only this machine reaches the relay then."""

ACCESS: Final = RequestKey("access", Access)
"""The access of a request, once it has been checked."""
