"""Watch links: a client that has one may read its job, and nothing else."""

from web.access.access import Access
from web.access.signing import Signer

__all__ = ["access_of_link"]


def access_of_link(signer: Signer, token: str, now: float) -> Access | None:
    """The access of the capability *token*, if *signer* made it and it has not expired at *now*."""
    found = signer.verify_watch(token, now)
    if found is None:
        return None
    job, expires = found
    return Access(
        subject=f"watch:{job}",
        jobs=frozenset({job}),
        expires=float(expires),
        credential=f"watch:{job}:{expires:x}",
    )
