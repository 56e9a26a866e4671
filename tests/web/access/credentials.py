"""Credentials that open nothing, each for one reason."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec import Struct

from tests.web.access.house import PROXY_SECRET, House
from tests.web.access.issuer import NOW, claims, encoded, mint, pem, private, signed
from tests.web.access.keys import ANN, BOB
from web.access.access import Access
from web.access.signing import Purpose, Signer
from web.access.tickets import claims_of

__all__ = ["MADE", "PRESENTED", "Made", "bearer", "tampered"]

JSON: Final = "Content-Type: application/json"


def bearer(token: str) -> str:
    """The header field that presents *token*."""
    return f"Authorization: Bearer {token}"


def tampered(text: str, place: int = -5) -> str:
    """*text* with another character at *place*."""
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place:][1:]


PRESENTED: Final[dict[str, Sequence[str]]] = {
    "no credentials": [],
    "an empty token": ["Authorization: Bearer "],
    "a token of another kind": ["Authorization: Basic YW5uOnNlY3JldA=="],
    "an unknown key": [bearer("rlk_" + "x" * 36)],
    "a key in capitals": [bearer(ANN.upper())],
    "a part of a key": [bearer(ANN[:-1])],
    "a Latin-1 token": [bearer("rlk_\xe9" + "x" * 36)],
    "a token with a space": [bearer(f"{ANN} {ANN}")],
    "a token of 8,100 characters": [bearer("a" * 8_100)],
    "two Authorization headers": [bearer(ANN), bearer(ANN)],
    "two Authorization headers, of two users": [bearer(ANN), bearer(BOB)],
    "a JWT without a signature": [bearer(signed({"alg": "none"}, claims(), b""))],
    "a JWT, none in capitals": [bearer(signed({"alg": "NONE", "kid": "one"}, claims(), b""))],
    "a JWT whose signature was taken away": [bearer(mint().rpartition(".")[0] + ".")],
    "a JWT with changed claims": [
        bearer(".".join([mint().split(".")[0], encoded(claims(sub="bob")), mint().split(".")[2]]))
    ],
    "a JWT that has expired": [bearer(mint(exp=NOW - 61))],
    "a JWT that is not valid yet": [bearer(mint(nbf=NOW + 61))],
    "a JWT that never expires": [bearer(mint(exp=None))],
    "a JWT without a subject": [bearer(mint(sub=None))],
    "a JWT of another issuer": [bearer(mint(iss="https://evil.example"))],
    "a JWT for another audience": [bearer(mint(aud="other"))],
    "a JWT by another algorithm": [bearer(mint("ES256"))],
    "a JWT by another key": [bearer(mint(key="two"))],
    "an HMAC with the public key": [bearer(signed({"alg": "HS256", "typ": "JWT"}, claims(), pem("RS256")))],
    "RS256 in the header, and an HMAC": [bearer(signed({"alg": "RS256"}, claims(), pem("RS256")))],
    "a JWT with a key of its own": [bearer(signed({"alg": "RS256", "jwk": {}}, claims(), private("RS256", "two")))],
    "the header of a proxy from a stranger": ["X-Forwarded-User: ann"],
    "the header of a proxy with a wrong secret": ["X-Forwarded-User: ann", f"X-Relay-Proxy: {PROXY_SECRET}x"],
    "a secret in Latin-1": ["X-Forwarded-User: ann", f"X-Relay-Proxy: {PROXY_SECRET[:-1]}\xe9"],
    "two secrets": ["X-Forwarded-User: ann", *[f"X-Relay-Proxy: {PROXY_SECRET}"] * 2],
    "the placeholder of Caddy": [
        "X-Forwarded-User: {http.reverse_proxy.header.X-Forwarded-User}",
        f"X-Relay-Proxy: {PROXY_SECRET}",
    ],
    "an empty user": ["X-Forwarded-User: ", f"X-Relay-Proxy: {PROXY_SECRET}"],
    "two users": ["X-Forwarded-User: ann", "X-Forwarded-User: bob", f"X-Relay-Proxy: {PROXY_SECRET}"],
    "the proxy's header with underscores": ["X_Forwarded_User: ann", f"X-Relay-Proxy: {PROXY_SECRET}"],
    "a forwarded address": ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"],
}
"""Header fields that anybody can send."""


class Made(Struct, frozen=True):
    """*make* returns header fields and a query, for a job of the key `ann`.

    *ambient*: a browser presents it by itself, so that an EventSource is ended by 204 and not by 401.
    """

    make: Callable[[House, str], Awaitable[tuple[list[str], str]]]
    ambient: bool = True


async def _cookie(served: House) -> str:
    signed_in = await served.ask("POST /v1/session", bearer(ANN))
    return signed_in.headers["set-cookie"].partition(";")[0]


async def _ticket(served: House, body: str = "{}") -> str:
    made = await served.ask("POST /v1/tickets", bearer(ANN), JSON, body=body.encode())
    return str(json.loads(made.body)["ticket"])


async def _bound(served: House, path: str) -> tuple[str, str]:
    """A ticket that was used at *path*, and its cookie."""
    ticket = await _ticket(served)
    first = await served.ask(f"GET {path}?ticket={ticket}")
    return ticket, first.headers["set-cookie"].partition(";")[0]


async def tampered_cookie(served: House, _: str) -> tuple[list[str], str]:
    return [f"Cookie: {tampered(await _cookie(served))}"], ""


async def widened_cookie(served: House, _: str) -> tuple[list[str], str]:
    return [f"Cookie: {tampered(await _cookie(served), 40)}"], ""


async def expired_cookie(served: House, _: str) -> tuple[list[str], str]:
    cookie = await _cookie(served)
    await served.clock.advance(served.guard.settings.session_for + 1)
    return [f"Cookie: {cookie}"], ""


async def doubled_cookie(served: House, _: str) -> tuple[list[str], str]:
    cookie = await _cookie(served)
    return [f"Cookie: {cookie}; {cookie}"], ""


async def cookie_in_two_fields(served: House, _: str) -> tuple[list[str], str]:
    cookie = await _cookie(served)
    return [f"Cookie: {cookie}", f"Cookie: {cookie}"], ""


async def latin_cookie(served: House, _: str) -> tuple[list[str], str]:
    return [f"Cookie: {(await _cookie(served)).partition('=')[0]}=rls_\xe9"], ""


async def quoted_cookie(served: House, _: str) -> tuple[list[str], str]:
    name, _, value = (await _cookie(served)).partition("=")
    return [f'Cookie: {name}="{value}"'], ""


async def withdrawn_cookie(served: House, _: str) -> tuple[list[str], str]:
    cookie = await _cookie(served)
    served.guard.revoke(subject="key:ann")
    return [f"Cookie: {cookie}"], ""


async def cookie_of_another_name(served: House, _: str) -> tuple[list[str], str]:
    return [f"Cookie: {(await _cookie(served)).upper()}"], ""


async def cookie_of_another_relay(served: House, _: str) -> tuple[list[str], str]:
    now = served.guard.now()
    other = Signer(b"another").sign("session", claims_of(Access(subject="key:ann"), now + 60, now))
    return [f"Cookie: relay-{served.guard.signer.id}={other}"], ""


def cookie_for(purpose: Purpose) -> Made:
    """What was signed for another purpose, in the session's cookie."""

    async def make(served: House, job: str) -> tuple[list[str], str]:
        name, now = (await _cookie(served)).partition("=")[0], served.guard.now()
        if purpose == "watch":
            value = served.guard.signer.sign_watch(job, int(now) + 60)
        else:
            value = served.guard.signer.sign(purpose, claims_of(Access(subject="key:ann"), now + 60, now))
        return [f"Cookie: {name}={value}"], ""

    return Made(make)


async def replayed_ticket(served: House, job: str) -> tuple[list[str], str]:
    ticket, _ = await _bound(served, f"/v1/jobs/{job}/events")
    await served.ask(f"GET /v1/events?ticket={ticket}")
    return [], f"ticket={ticket}"


async def ticket_of_another_path(served: House, _: str) -> tuple[list[str], str]:
    ticket, cookie = await _bound(served, "/v1/jobs/job_x/events")
    return [f"Cookie: {cookie}"], f"ticket={ticket}"


async def cookie_of_another_ticket(served: House, job: str) -> tuple[list[str], str]:
    _, cookie = await _bound(served, f"/v1/jobs/{job}/events")
    other, _ = await _bound(served, f"/v1/jobs/{job}/events")
    name = f"rt_{hashlib.sha256(other.encode()).hexdigest()[:8]}"
    return [f"Cookie: {name}={cookie.partition('=')[2]}"], f"ticket={other}"


async def late_ticket(served: House, _: str) -> tuple[list[str], str]:
    ticket = await _ticket(served)
    await served.clock.advance(31)
    return [], f"ticket={ticket}"


async def expired_ticket(served: House, _: str) -> tuple[list[str], str]:
    ticket = await _ticket(served, '{"ttl":5}')
    await served.clock.advance(6)
    return [], f"ticket={ticket}"


async def tampered_ticket(served: House, _: str) -> tuple[list[str], str]:
    return [], f"ticket={tampered(await _ticket(served))}"


async def two_tickets(served: House, _: str) -> tuple[list[str], str]:
    return [], f"ticket={await _ticket(served)}&ticket={await _ticket(served)}"


async def latin_ticket(served: House, _: str) -> tuple[list[str], str]:
    return [], "ticket=rlt_%E9%00"


async def session_as_ticket(served: House, _: str) -> tuple[list[str], str]:
    return [], f"ticket={(await _cookie(served)).partition('=')[2]}"


async def key_as_ticket(served: House, _: str) -> tuple[list[str], str]:
    return [], f"ticket={ANN}"


async def ticket_as_token(served: House, _: str) -> tuple[list[str], str]:
    return [bearer(await _ticket(served))], ""


async def session_as_token(served: House, _: str) -> tuple[list[str], str]:
    return [bearer((await _cookie(served)).partition("=")[2])], ""


async def expired_watch_link(served: House, job: str) -> tuple[list[str], str]:
    link = served.guard.signer.sign_watch(job, int(served.guard.now()) + 60)
    await served.clock.advance(60)
    return [bearer(link)], ""


async def tampered_watch_link(served: House, job: str) -> tuple[list[str], str]:
    return [bearer(tampered(served.guard.signer.sign_watch(job, int(served.guard.now()) + 60), 15))], ""


async def withdrawn_watch_link(served: House, job: str) -> tuple[list[str], str]:
    link = served.guard.signer.sign_watch(job, int(served.guard.now()) + 60)
    served.guard.revoke(subject=f"watch:{job}")
    return [bearer(link)], ""


async def watch_link_of_another_relay(_: House, job: str) -> tuple[list[str], str]:
    return [bearer(Signer(b"another").sign_watch(job, NOW + 60))], ""


async def key_in_the_query(_: House, __: str) -> tuple[list[str], str]:
    return [], f"access_token={ANN}&token={ANN}"


MADE: Final[dict[str, Made]] = {
    "a session with a changed signature": Made(tampered_cookie),
    "a session with changed claims": Made(widened_cookie),
    "a session that has expired": Made(expired_cookie),
    "two sessions": Made(doubled_cookie),
    "two sessions in two fields": Made(cookie_in_two_fields),
    "a session in Latin-1": Made(latin_cookie),
    "a session in quotes": Made(quoted_cookie),
    "a session of a subject that was revoked": Made(withdrawn_cookie),
    "a session in a cookie of another name": Made(cookie_of_another_name, ambient=False),
    "a session of another relay": Made(cookie_of_another_relay),
    "a ticket as a session": cookie_for("ticket"),
    "a bound ticket as a session": cookie_for("bound"),
    "a watch link as a session": cookie_for("watch"),
    "a ticket that was used": Made(replayed_ticket),
    "a ticket of another path, with its cookie": Made(ticket_of_another_path),
    "a ticket with the cookie of another one": Made(cookie_of_another_ticket),
    "a ticket after 31 s": Made(late_ticket),
    "a ticket that has expired": Made(expired_ticket),
    "a ticket with a changed signature": Made(tampered_ticket),
    "two tickets": Made(two_tickets),
    "a ticket that is no text": Made(latin_ticket),
    "a session as a ticket": Made(session_as_ticket),
    "a key as a ticket": Made(key_as_ticket),
    "a ticket as a token": Made(ticket_as_token, ambient=False),
    "a session as a token": Made(session_as_token, ambient=False),
    "a watch link that has expired": Made(expired_watch_link, ambient=False),
    "a watch link for another job by hand": Made(tampered_watch_link, ambient=False),
    "a watch link that was revoked": Made(withdrawn_watch_link, ambient=False),
    "a watch link of another relay": Made(watch_link_of_another_relay, ambient=False),
    "a key in the query": Made(key_in_the_query, ambient=False),
}
"""What the relay itself has signed, or should have."""
