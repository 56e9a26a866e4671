"""The one place that finds what a request may do, by an ordered list of ways to prove it."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp.web import AppKey, Request, RequestKey

from relay import ConfigError, Relay
from relay.clock import Clock
from relay.config.access_settings import AccessSettings, JwtSettings, is_same
from relay.notices import Notify, notice
from web.access.access import ANYBODY, Access
from web.access.addresses import plain_address, remote_of
from web.access.at_once import WaitsError, at_once
from web.access.attempts import FailedAttempts
from web.access.authorize import Authorize, decided
from web.access.bearer import BearerTokens, Way
from web.access.cookies import read_cookie
from web.access.denied import DeniedError, unauthorized, unavailable
from web.access.elsewhere import Elsewhere
from web.access.keys import ApiKeys
from web.access.proxy import PROXY, TrustedProxy
from web.access.revocations import Revocations
from web.access.session_cookies import Sessions
from web.access.signing import Claims, Signer
from web.access.tickets import Tickets, access_in
from web.access.watch import access_of_link
from web.access.withdrawals import EndsAccess, Withdrawals

if TYPE_CHECKING:
    from web.access.jwt import JwtVerifier

__all__ = ["GUARD", "Guard"]

FORMER: Final = 8
"""Verifiers of former settings that are closed at the end; a fetch of theirs ends by itself within seconds."""

JWT: Final = "jwt:"
"""What the subject and the credential of a JWT begin with."""

_FOUND_AT: Final = RequestKey("found_at", int)

_NO_CREDENTIAL: Final = "this needs an access: send `Authorization: Bearer` with a token, or sign in"


class Guard:
    """Finds the access of each request. Without settings and without *authorize*, everybody has every access.

    *public_url*: the address at which users reach the relay, if it is not that of its own socket. Raises ConfigError
    for *settings* without a `signing_key` at one of several nodes.
    """

    def __init__(
        self,
        relay: Relay,
        settings: AccessSettings | None = None,
        authorize: Authorize | None = None,
        *,
        public_url: str | None = None,
        notify: Notify = notice,
    ) -> None:
        self._authorize = authorize
        self._notify = notify
        self._public_url = public_url
        self._public = urlsplit(public_url or "")
        self._clock = relay.clock
        self.open: bool = settings is None and authorize is None
        if relay.cluster is not None and settings is not None and settings.signing_key is None:
            raise ConfigError(
                "access at several nodes needs a signing_key, the same at all of them, as each would refuse the"
                " sessions, tickets and watch links of the others"
            )
        settings = settings or AccessSettings()
        self.settings: AccessSettings = settings
        signing = settings.signing_key
        self.signer: Signer = Signer(signing.reveal().encode() if signing is not None else None)
        self.tickets: Tickets = Tickets(self.signer, self.now, relay.cluster)
        self.attempts: FailedAttempts = FailedAttempts(settings.failures, self._clock.monotonic)
        self.on_withdrawn: Callable[[EndsAccess], object] = bool
        """Called once an access may have ended: the streams of those that have are to end."""
        self._withdrawals = Withdrawals()
        self._sessions = Sessions(self.signer, self.now)
        self._revocations = Revocations(self.now)
        self._elsewhere = Elsewhere(relay, self._revoke, self._sessions.ended)
        self._jwt: JwtVerifier | None = None
        self._changed: dict[str, float] = {}
        self._former: deque[JwtVerifier] = deque(maxlen=FORMER)
        self._configure(settings)

    async def start(self) -> None:
        """Fetch the keys of the issuer of tokens, so that no request waits for them."""
        self._elsewhere.start()
        if self.tickets.uses is not None:
            self.tickets.uses.start()
        if self._jwt is not None:
            await self._jwt.start()

    async def close(self) -> None:
        """End a fetch of keys that is under way."""
        self._elsewhere.close()
        if self.tickets.uses is not None:
            self.tickets.uses.close()
        for verifier in [*self._former, *([self._jwt] if self._jwt is not None else [])]:
            await verifier.close()
        self._former.clear()

    def now(self) -> float:
        """The time in seconds since 1970."""
        return self._clock.now().timestamp()

    async def find(self, request: Request, *, stream: bool) -> Access:
        """The access of *request*; a *stream* may have a ticket. Raises DeniedError."""
        request[_FOUND_AT] = self._withdrawals.count
        if self.open:
            return ANYBODY
        try:
            return await self._find(request, stream=stream)
        except DeniedError as denied:
            if denied.failed:
                self.attempts.failed(self.address(request))
            raise

    def find_at_once(self, request: Request) -> Access | None:
        """The access of *request*, which is for a stream, if it is allowed and nothing has to be awaited for that.

        None in all other cases: `find` decides about them. Nothing is counted, used up or reported here.
        """
        request[_FOUND_AT] = self._withdrawals.count
        if self.open:
            return ANYBODY
        if self._authorize is not None or "ticket=" in request.rel_url.raw_query_string:
            return None
        try:
            return at_once(self._find(request, stream=True, again=True))
        except (DeniedError, WaitsError):
            return None

    def has_ended(self, request: Request, access: Access) -> bool:
        """Whether *access*, which was found for *request*, was withdrawn since then: ask before a stream is opened."""
        return self._withdrawals.ended(access, request.get(_FOUND_AT, 0))

    def address(self, request: Request) -> str:
        """The address of the client of *request*, also behind a proxy that is believed."""
        forwarded = self._proxy.client_address(request) if self._proxy is not None else None
        return forwarded or plain_address(remote_of(request))

    def is_secure(self, request: Request) -> bool:
        """Whether the client of *request* came by https, as far as the relay knows."""
        if request.secure or self._public.scheme == "https":
            return True
        said = request.headers.getall("X-Forwarded-Proto", [])
        return said == ["https"] and self._proxy is not None and self._proxy.believes(request)

    def path(self, path: str) -> str:
        """*path* as clients see it: a proxy may serve the relay below a prefix, and remove that."""
        prefix = self._public.path.rstrip("/")
        return path if path.startswith(f"{prefix}/") else prefix + path

    def page(self, request: Request) -> str:
        """The address of the page, at which users reach it."""
        if self._public_url is not None:
            return self._public_url.rstrip("/") + "/"
        scheme = "https" if self.is_secure(request) else "http"
        return f"{scheme}://{request.host}{request.app.router['page'].url_for()}"

    def session_cookie(self, request: Request) -> str:
        """The name of the cookie of sessions: cookies know no port, so that two relays of a host need two names."""
        prefix = "__Host-" if self.is_secure(request) else ""
        return f"{prefix}relay-{self.signer.id}"

    def reload(self, settings: AccessSettings) -> None:
        """Take over other keys, another issuer and another proxy. The key that signs stays as it is.

        Streams whose access is another one now, or none, are ended; so are sessions and tickets of these. From now on
        an access is needed, also if none was. Raises ConfigError, and changes nothing then.
        """
        before, former = self._keys.by_credential, self.settings
        self._configure(settings)
        if self.open:
            self.open = False
            self._withdraw(lambda _: True)
        self._end_changed(before)
        for way, one, other in ((JWT, former.jwt, settings.jwt), (PROXY, former.proxy, settings.proxy)):
            if one is not None and not is_same(one, other):
                self._changed[way] = self.now()
                self._withdraw(partial(_is_of, way))

    def refresh(self) -> None:
        """Read key files again that have changed: call it every few seconds. It ends the streams of former keys."""
        before = self._keys.by_credential
        if self._keys.refresh():
            self._bearer.forget()
            self._end_changed(before)

    def revoke(self, *, subject: str | None = None, credential: str | None = None) -> None:
        """End all streams of *subject*, or of *credential*, and accept nothing that was issued to them until now.

        The links of a job are of the subject `watch:JOB`, and none of them is accepted any more, whenever it was made.
        An API key is revoked where it is configured, and whatever the application says where the application says it.
        """
        self._revoke(subject, credential)
        self._elsewhere.revoked(subject, credential, self.now())

    def end_session(self, request: Request) -> None:
        """Accept the session of *request* no more, if it has one; its streams go on until it would have ended."""
        number = self._sessions.end(read_cookie(request, self.session_cookie(request)))
        if number is not None:
            self._elsewhere.ended(number)

    def _revoke(self, subject: str | None, credential: str | None, at: float = 0.0) -> None:
        self._revocations.revoke(subject=subject, credential=credential, at=at)
        self._bearer.forget()
        self._withdraw(lambda access: subject == access.subject or credential == access.credential)

    def _accepted(self, claims: Claims, access: Access) -> Access:
        """*access*, which was signed as *claims*. Raises DeniedError if it was revoked, or its key is none any more."""
        if not self._still_holds(access, claims.issued):
            raise unauthorized("this access was withdrawn; sign in again", "invalid_token", ambient=True)
        return access

    def _still_holds(self, access: Access, issued: float) -> bool:
        """Whether *access*, which was signed at the time *issued*, is still accepted from the way that proved it."""
        if access.credential.startswith((JWT, PROXY)):
            way, configured = (JWT, self._jwt) if _is_of(JWT, access) else (PROXY, self._proxy)
            if configured is None or issued <= self._changed.get(way, -1.0):
                return False
        return self._keys.knows(access) and self._revocations.holds(access.subject, access.credential, issued)

    def _withdraw(self, ends: EndsAccess) -> None:
        self._withdrawals.add(ends)
        self.on_withdrawn(ends)

    def _configure(self, settings: AccessSettings) -> None:
        # First, since it may raise: all stays as it was then.
        jwt = settings.jwt
        verifier = None if jwt is None else _verifier(jwt, self._clock, self._notify)
        self.settings = settings
        self.attempts.most = settings.failures
        self._keys = ApiKeys(settings.keys, self._notify)
        self._proxy = TrustedProxy(settings.proxy) if settings.proxy is not None else None
        ways = [Way(self._watch), Way(self._key, kept=True)]
        if self._jwt is not None:
            self._former.append(self._jwt)
        self._jwt = verifier
        if verifier is not None:
            ways.append(Way(partial(self._of_jwt, verifier)))
        self._bearer = BearerTokens(tuple(ways), self.attempts, self.now)

    def _end_changed(self, before: Mapping[str, Access]) -> None:
        now = self._keys.by_credential
        changed = {credential for credential, access in before.items() if now.get(credential) != access}
        if changed:
            self._withdraw(lambda access: access.credential in changed)

    async def _find(self, request: Request, *, stream: bool, again: bool = False) -> Access:
        if self._authorize is not None:
            access = await decided(self._authorize, request, self.now())
            if access is not None:
                return access
        if (access := await self._bearer.find(request, self.address, again=again)) is not None:
            return access
        if stream and "ticket=" in request.rel_url.raw_query_string:
            path = self.path(request.rel_url.raw_path)
            ticket = await self.tickets.find(request, secure=self.is_secure(request), path=path)
            if ticket is not None:
                return self._accepted(ticket, access_in(ticket))
        cookie = read_cookie(request, self.session_cookie(request))
        session = self._sessions.find(cookie)
        proxied = self._proxy.find(request) if self._proxy is not None else None
        if session is not None and (proxied is None or not _is_of(PROXY, session.access)):
            return self._accepted(*session)
        if proxied is not None:
            return proxied  # the user of now, whose session may be one of the user before
        if cookie is not None:
            # A browser presents what has expired as well, and is no attempt to guess anything.
            raise unauthorized("this session has ended; sign in again", "invalid_token", ambient=True)
        raise unauthorized(_NO_CREDENTIAL)

    async def _key(self, token: str, _: Access | None) -> Access | None:
        return self._keys.find(token)

    async def _of_jwt(self, verifier: "JwtVerifier", token: str, before: Access | None) -> Access | None:
        claims = await (verifier.verify(token) if before is None else verifier.recall(token))
        if claims is None:
            if not verifier.ready:
                raise unavailable("the keys of the issuer cannot be had at present; try again later", verifier.again)
            return None
        access = before or Access(
            subject=f"{JWT}{claims.subject}",
            scopes=claims.scopes,
            jobs=claims.jobs,
            expires=claims.expires,
            credential=f"{JWT}{claims.id}",
        )
        return access if self._revocations.holds(access.subject, access.credential, claims.issued) else None

    async def _watch(self, token: str, _: Access | None) -> Access | None:
        access = access_of_link(self.signer, token, self.now())
        if access is None or not self._revocations.holds(access.subject, access.credential, None):
            return None
        return access


def _is_of(way: str, access: Access) -> bool:
    return access.credential.startswith(way)


def _verifier(settings: JwtSettings, clock: Clock, notify: Notify) -> "JwtVerifier":
    # Its imports take 12 ms, which a relay that verifies no tokens need not spend.
    from web.access.jwt import JwtVerifier

    return JwtVerifier(settings, clock=clock, notify=notify)


GUARD: Final = AppKey("guard", Guard)
"""Finds the access of requests of the application; with `revoke` and `reload` for its owner."""
