"""A trusted proxy, which says in a header who its client is."""

import hmac
import re
from ipaddress import ip_network
from typing import Final

from aiohttp.web import Request

from relay.config.access_settings import ProxySettings
from web.access.access import Access, Jobs
from web.access.addresses import UNIX, forwarded_address, is_within, remote_of
from web.access.keys import jobs_of, scopes_of

__all__ = ["PROXY", "TrustedProxy"]

PROXY: Final = "proxy:"
"""What the subject and the credential of a proxy's user begin with."""

_USER: Final = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
"""Names that are believed. [measured] Caddy 2.6.2 sends the name of its own placeholder, in braces, as the user where
the login service names none.
"""


class TrustedProxy:
    """Believes the user that a proxy names: from the relay's unix socket, or from a network with a shared secret."""

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._networks = [ip_network(text) for text in settings.networks if text != "unix"]
        self._unix = "unix" in settings.networks
        self._scopes = scopes_of(settings.scopes)
        self._jobs: Jobs = jobs_of(settings.jobs)

    def believes(self, request: Request) -> bool:
        """Whether *request* comes from the proxy, by where it comes from and by the secret that it has."""
        remote = remote_of(request)  # it may be None, and no unix socket, once the client has left
        from_unix = self._unix and remote == UNIX
        if not from_unix and not is_within(remote, self._networks):
            return False
        secret = self._settings.secret
        if secret is None:
            return from_unix
        presented = request.headers.getall(self._settings.secret_header, [])
        if len(presented) != 1 or not presented[0].isascii():
            return False
        return hmac.compare_digest(presented[0], secret.reveal())

    def find(self, request: Request) -> Access | None:
        """The access of the user that the proxy names in *request*, if it is the proxy's; None without one user."""
        named = request.headers.getall(self._settings.user, [])
        if len(named) != 1 or not _USER.fullmatch(named[0]) or not self.believes(request):
            return None
        return Access(
            subject=f"{PROXY}{named[0]}",
            scopes=self._scopes,
            jobs=self._jobs,
            renew=self._settings.renew,
            credential=f"{PROXY}{named[0]}",
        )

    def client_address(self, request: Request) -> str | None:
        """The address of the client before the proxy, if *request* is the proxy's and names one."""
        return forwarded_address(request, self._networks) if self.believes(request) else None
