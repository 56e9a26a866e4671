"""What each subject may do, as [access] says it: one short line for each way in, without any secret."""

from collections.abc import Collection, Iterator
from typing import Final

from relay.config.access_settings import AccessSettings, JobsSetting
from relay.text import bounded

__all__ = ["access_lines", "described"]

KEYS_SHOWN: Final = 20
NETWORKS_SHOWN: Final = 3
WORD_LIMIT: Final = 100


def access_lines(settings: AccessSettings) -> Iterator[str]:
    """A line for each way in; KEYS_SHOWN keys have one each, and a last line counts the others."""
    for key in settings.keys[:KEYS_SHOWN]:
        yield f"key:{key.name} has {described(key.scopes.split(), key.jobs)}"
    if (more := len(settings.keys) - KEYS_SHOWN) > 0:
        yield f"and {more:,} more [[access.keys]]; relay access check says what each of them may do"
    if (jwt := settings.jwt) is not None:
        yield f"jwt:SUB has what its token of {bounded(jwt.issuer, WORD_LIMIT)} says"
    if (proxy := settings.proxy) is not None:
        networks = ", ".join(proxy.networks[:NETWORKS_SHOWN])
        more_networks = f" and {further} more" if (further := len(proxy.networks) - NETWORKS_SHOWN) > 0 else ""
        rights = described(proxy.scopes.split(), proxy.jobs)
        yield f"proxy:USER, named in {proxy.user} by a proxy at {networks}{more_networks}, has {rights}"
    if settings.signing_key is None:
        yield (
            "there is no signing_key in [access], so sessions, tickets and watch links end with this process;"
            " make one with relay token --new-key"
        )


def described(scopes: Collection[str], jobs: JobsSetting) -> str:
    """Scopes, and the jobs that they are about, in words."""
    if not scopes:
        return "no scope"
    if jobs == "*" or "operate" in scopes:
        about = "all jobs"
    elif jobs == "own":
        about = "its own jobs"
    else:
        about = jobs[0] if len(jobs) == 1 else f"{len(jobs):,} jobs"
    return f"{' '.join(scopes)} for {about}"
