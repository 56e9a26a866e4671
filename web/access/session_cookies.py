"""Sessions, which a browser presents as a cookie: each is verified once, and can be ended by its user."""

from collections.abc import Callable
from typing import NamedTuple

from web.access.access import Access
from web.access.revocations import Revocations
from web.access.signing import Claims, Signer
from web.access.tickets import access_in
from web.access.verified import VerifiedTokens

__all__ = ["Session", "Sessions"]


class Session(NamedTuple):
    """A session that was verified: its *claims*, and the *access* that these are."""

    claims: Claims
    access: Access


class Sessions:
    """Finds the session in a cookie. *now* is in seconds since 1970."""

    def __init__(self, signer: Signer, now: Callable[[], float]) -> None:
        self._signer = signer
        self._now = now
        self._verified: VerifiedTokens[Session] = VerifiedTokens()
        self._ended = Revocations(now)

    def find(self, cookie: str | None) -> Session | None:
        """The session in *cookie*, unless it has expired or was ended. Raises DeniedError for one of another version.

        The relay may have withdrawn its access since.
        """
        if not cookie or not cookie.isascii():
            return None
        session = self._verified.find(cookie, self._now())
        if session is None:
            claims = self._signer.verify("session", cookie, self._now())
            if claims is None:
                return None
            session = Session(claims, access_in(claims))
            self._verified.keep(cookie, session, claims.expires)
        return session if self._ended.holds("", session.claims.nonce, None) else None

    def end(self, cookie: str | None) -> str | None:
        """Accept the session in *cookie* no more; return its number, None for no session."""
        if (session := self.find(cookie)) is None:
            return None
        self.ended(session.claims.nonce)
        return session.claims.nonce

    def ended(self, number: str) -> None:
        """Accept the session of this *number* no more."""
        self._ended.revoke(credential=number)
