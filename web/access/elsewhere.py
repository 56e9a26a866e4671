"""What one node no longer accepts, the other nodes of its cluster do not accept either."""

from collections.abc import Callable, Mapping
from typing import Final

from relay import Relay

__all__ = ["Elsewhere"]

TOPIC: Final = "access"


class Elsewhere:
    """Sends revocations and ended sessions to the other nodes of *relay*, and passes on those that they send.

    Each is sent once: a node that has no engine at that moment, or starts later, does not receive it. *revoke* gets a
    subject, a credential, and the time of the other node; *end_session* the number of a session. Without a cluster it
    does nothing.
    """

    def __init__(
        self,
        relay: Relay,
        revoke: Callable[[str | None, str | None, float], object],
        end_session: Callable[[str], object],
    ) -> None:
        self._cluster = relay.cluster
        self._revoke = revoke
        self._end_session = end_session
        self._leave: Callable[[], None] | None = None

    def start(self) -> None:
        """Receive from now on."""
        if self._cluster is not None and self._leave is None:
            self._leave = self._cluster.when_announced(TOPIC, self._receive)

    def close(self) -> None:
        """Neither receive nor send any more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def revoked(self, subject: str | None, credential: str | None, at: float) -> None:
        """Send that nothing is accepted that was issued to *subject*, or with *credential*, before *at*."""
        named = {"subject": subject, "credential": credential}
        self._send({name: value for name, value in named.items() if value is not None} | {"at": repr(at)})

    def ended(self, session: str) -> None:
        """Send that the session of this number is over."""
        self._send({"session": session})

    def _send(self, what: Mapping[str, str]) -> None:
        if self._cluster is not None and self._leave is not None:
            self._cluster.announce(TOPIC, what)

    def _receive(self, what: Mapping[str, str]) -> None:
        if (session := what.get("session")) is not None:
            self._end_session(session)
        else:
            self._revoke(what.get("subject"), what.get("credential"), float(what["at"]))
