"""Keys from a file or from a server: they rotate, and a source that fails leaves the keys that are known."""

import asyncio
import gzip
import json
import os
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trustme

import web.access.jwks
from relay.errors import ConfigError
from relay.testing import ManualClock
from tests.web.access.issuer import jwk, jwks, mint, settings
from tests.web.access.key_server import KeyServer, serve_keys
from web.access.jwks import SET_LIMIT, check_url
from web.access.jwt import JwtVerifier


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer over loopback may take seconds."""
    monkeypatch.setattr(web.access.jwks, "TIMEOUT", 3_600.0)


@pytest.fixture
async def server() -> AsyncGenerator[KeyServer]:
    async with serve_keys(jwks(jwk("RS256", "one"))) as running:
        yield running


class Relay:
    """A verifier of a relay, its clock and what its operator was notified of, but for tokens that were refused."""

    def __init__(self, url: str, *algorithms: str) -> None:
        self.clock = ManualClock()
        self.notices: list[str] = []
        self.verifier = JwtVerifier(settings(*algorithms, jwks=url), clock=self.clock, notify=self._notify)

    def _notify(self, text: str) -> None:
        if "a token was refused" not in text:
            self.notices.append(text)

    async def accepts(self, key: str) -> bool:
        return await self.verifier.verify(mint(key=key)) is not None


@pytest.fixture
async def relay(server: KeyServer) -> AsyncGenerator[Relay]:
    made = Relay(server.url)
    yield made
    await made.verifier.close()


async def test_the_set_is_fetched_once_for_all_that_need_it_first(server: KeyServer, relay: Relay) -> None:
    accepted = await asyncio.gather(*(relay.verifier.verify(mint(sub=f"user-{number}")) for number in range(50)))

    assert all(accepted)
    assert await relay.accepts("one")
    assert server.requests == ["/keys?p=policy"]
    assert relay.notices == []


async def test_a_token_that_cannot_be_valid_fetches_nothing(server: KeyServer, relay: Relay) -> None:
    for token in ("a.b.c", mint(iss="https://other.example"), mint(exp=1), mint("HS256"), mint(aud="other")):
        assert await relay.verifier.verify(token) is None

    assert server.requests == []


async def test_a_new_key_is_known_once_a_token_names_it(server: KeyServer, relay: Relay) -> None:
    assert await relay.accepts("one")
    server.body = jwks(jwk("RS256", "one"), jwk("RS256", "two"))

    assert not await relay.accepts("two")
    await relay.clock.advance(29)
    assert not await relay.accepts("two")
    assert len(server.requests) == 1
    await relay.clock.advance(1)
    assert [await relay.accepts(name) for name in ("two", "one")] == [True, True]
    assert len(server.requests) == 2


async def test_unknown_keys_make_one_fetch_each_half_minute(server: KeyServer, relay: Relay) -> None:
    assert await relay.accepts("one")
    tokens = [mint(sub=f"user-{number}", key="two") for number in range(20)]

    for _ in range(3):
        await relay.clock.advance(30)
        assert not any(await asyncio.gather(*map(relay.verifier.verify, tokens)))
    assert len(server.requests) == 4
    assert relay.verifier.refusals == {"key": 60}


async def test_a_key_that_is_withdrawn_verifies_nothing_any_more(server: KeyServer, relay: Relay) -> None:
    """Also not the token that was verified with it, and is remembered."""
    token = mint(key="one")
    assert await relay.verifier.verify(token) is not None
    server.body = jwks(jwk("RS256", "two"))

    await relay.clock.advance(300)
    assert await relay.verifier.verify(token) is not None, "the set is fetched beside the requests"
    await _is_settled(relay)
    assert await relay.verifier.verify(token) is None
    assert len(server.requests) == 2


async def _is_settled(relay: Relay) -> None:
    """Return once no fetch is under way: a token of an unknown key waits for it."""
    assert await relay.verifier.verify(mint(key="three")) is None


async def test_a_set_that_nobody_used_for_ten_minutes_is_fetched_before_it_is_used(
    server: KeyServer, relay: Relay
) -> None:
    long = mint(exp=1_767_225_600 + 3_600)
    assert await relay.verifier.verify(long) is not None
    server.body = jwks(jwk("RS256", "two"))

    await relay.clock.advance(600)
    assert await relay.verifier.verify(long) is None


async def test_an_unchanged_set_leaves_what_is_remembered(server: KeyServer, relay: Relay) -> None:
    token = mint(exp=1_767_225_600 + 3_600)
    first = await relay.verifier.verify(token)

    await relay.clock.advance(600)
    assert await relay.verifier.verify(token) is first
    assert len(server.requests) == 2


def _bomb() -> bytes:
    return gzip.compress(b'{"keys":[' + b" " * 64 * SET_LIMIT + b"]}", mtime=0)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"status": 500}, "cannot be fetched: HOST answered 500"),
        ({"status": 404}, "cannot be fetched: HOST answered 404"),
        ({"status": 204, "body": b""}, "cannot be fetched: HOST answered 204"),
        (
            {"status": 302, "headers": {"Location": "/other"}},
            "cannot be fetched: HOST answered 302, a redirect, which is not followed",
        ),
        (
            {"body": _bomb(), "headers": {"Content-Encoding": "gzip"}},
            "cannot be fetched: the answer is longer than 262,144 bytes",
        ),
        ({"body": b" " * (SET_LIMIT + 1)}, "cannot be fetched: the answer is longer than 262,144 bytes"),
        (
            {"headers": {"Content-Encoding": "gzip"}},
            "cannot be fetched: the answer of HOST is not compressed as it says",
        ),
        ({"body": b"<html>"}, "is no JSON: it should be an object, as in RFC 7517"),
        ({"body": b"[" * 100_000}, "is nested too deeply: it should be an object, as in RFC 7517"),
        ({"body": b"[]"}, "is no JSON: it should be an object, as in RFC 7517"),
        ({"body": b"{}"}, 'is no JWK set, which is a JSON object with a list "keys" of at most 100'),
        ({"body": jwks(*[{}] * 101)}, 'is no JWK set, which is a JSON object with a list "keys" of at most 100'),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_while_the_set_cannot_be_had_the_keys_stay_and_one_notice_says_why(
    server: KeyServer, relay: Relay, answer: dict[str, Any], problem: str
) -> None:
    assert await relay.accepts("one")
    good, host = server.body, server.url.split("/")[2]
    for name, value in answer.items():
        setattr(server, name, value)

    for _ in range(3):
        await relay.clock.advance(30)
        await _is_settled(relay)
        assert await relay.accepts("one")
    assert len(server.requests) == 4
    what = f"the key set at {server.url.partition('?')[0]}"
    expected = problem.replace("HOST", host)
    assert relay.notices == [f"{what} {expected}; the keys stay as they were, and it is fetched again"]

    server.body, server.status, server.headers = jwks(*json.loads(good)["keys"], jwk("RS256", "two")), 200, {}
    await relay.clock.advance(30)
    assert await relay.accepts("two")
    assert relay.notices[1:] == [f"{what} can be fetched again"]


async def test_without_any_set_it_is_fetched_again_after_five_seconds(server: KeyServer, relay: Relay) -> None:
    server.status = 503
    await relay.verifier.start()
    assert not await relay.accepts("one")
    server.status = 200
    assert not await relay.accepts("one")
    await relay.clock.advance(5)
    assert await relay.accepts("one")
    assert len(server.requests) == 2
    assert [notice.partition("answered 503; ")[2] for notice in relay.notices] == [
        "no token is valid until then, and it is fetched again",
        "",
    ]


async def test_a_set_without_keys_is_a_set(server: KeyServer, relay: Relay) -> None:
    """An issuer may withdraw all its keys."""
    assert await relay.accepts("one")
    server.body = jwks()
    await relay.clock.advance(30)

    await _is_settled(relay)
    assert not await relay.accepts("one")
    assert relay.notices == ["[access.jwt]: in the key set, no key can verify RS256, so every token is refused"]


async def test_keys_that_cannot_be_used_are_a_few_notices_and_each_is_one(server: KeyServer, relay: Relay) -> None:
    odd = [{"kty": "RSA", "kid": str(number)} for number in range(20)]
    server.body = jwks(*odd, jwk("RS256", "one"))
    assert await relay.accepts("one")

    assert relay.notices == [
        *(f"[access.jwt]: in the key set, key {place} cannot be read (KeyParameterError)" for place in range(1, 6)),
        "[access.jwt]: 15 more keys of the set cannot be used",
    ]
    server.body = jwks(*odd, jwk("RS256", "one"), jwk("RS256", "two"))
    await relay.clock.advance(30)
    assert await relay.accepts("two")
    assert len(relay.notices) == 6


async def test_a_request_waits_two_seconds_for_a_slow_server_and_the_fetch_goes_on(
    server: KeyServer, relay: Relay
) -> None:
    server.gate.clear()
    waiting = asyncio.create_task(relay.accepts("one"))
    await server.asked.wait()
    await relay.clock.sleeping()

    assert not waiting.done()
    await relay.clock.advance(2)
    assert await waiting is False
    server.gate.set()
    assert await relay.accepts("one"), (relay.notices, relay.verifier.refusals)
    assert len(server.requests) == 1


async def test_a_slow_server_delays_no_token_of_a_known_key(server: KeyServer, relay: Relay) -> None:
    assert await relay.accepts("one")
    server.asked.clear()
    server.gate.clear()
    await relay.clock.advance(300)

    for number in range(3):
        assert await relay.verifier.verify(mint(sub=f"user-{number}")) is not None
    await server.asked.wait()
    assert len(server.requests) == 2


async def test_one_fetch_is_made_at_a_time_however_long_it_lasts(server: KeyServer, relay: Relay) -> None:
    server.gate.clear()
    for waiting in range(1, 4):
        tokens = [asyncio.create_task(relay.accepts("one")) for _ in range(waiting)]
        await relay.clock.sleeping(waiting)
        await server.asked.wait()
        await relay.clock.advance(40)
        assert not any([await token for token in tokens])

    assert len(server.requests) == 1


async def test_an_issuer_that_is_away_for_long_delays_no_token_of_a_known_key(server: KeyServer, relay: Relay) -> None:
    long = mint(exp=1_767_225_600 + 7_200)
    assert await relay.verifier.verify(long) is not None
    server.status = 500
    await relay.clock.advance(600)
    assert await relay.verifier.verify(long) is not None, "it waited for the answer, which is an error"
    server.gate.clear()
    await relay.clock.advance(600)
    assert await relay.verifier.verify(long) is not None, "the clock stands still, so it has not waited"


async def test_a_server_that_never_answers_is_given_up(
    server: KeyServer, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.access.jwks, "TIMEOUT", 0.01)
    server.gate.clear()

    assert not await relay.accepts("one")
    (notice,) = relay.notices
    assert "cannot be fetched: no whole answer from 127.0.0.1" in notice


async def test_closing_ends_a_fetch_that_is_under_way(server: KeyServer, relay: Relay) -> None:
    server.gate.clear()
    waiting = asyncio.create_task(relay.accepts("one"))
    await server.asked.wait()

    await relay.verifier.close()
    assert await waiting is False
    assert relay.notices == []


async def test_a_server_with_a_certificate_that_is_not_trusted_gives_no_keys() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with serve_keys(jwks(jwk("RS256")), context) as server:
        relay = Relay(server.url)
        assert not await relay.accepts("one")

    (notice,) = relay.notices
    assert "no secure connection" in notice
    assert server.requests == []


async def test_nothing_listens() -> None:
    async with serve_keys(b"") as server:
        url = server.url
    relay = Relay(url)

    assert not await relay.accepts("one")
    (notice,) = relay.notices
    assert "cannot be fetched: no connection to 127.0.0.1" in notice


# Files


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


async def test_a_file_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("RS256", "one")))
    relay = Relay(f"file:{path}")

    assert [await relay.accepts(name) for name in ("one", "two")] == [True, False]
    _replace(path, jwks(jwk("RS256", "two")))
    assert [await relay.accepts(name) for name in ("one", "two")] == [False, True]
    assert relay.notices == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is no JSON: it should be an object, as in RFC 7517"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (jwks(), "has no key that can be used"),
        (b" " * (SET_LIMIT + 1), "is longer than 262,144 bytes"),
    ],
    ids=["away", "empty", "no text", "no keys", "too long"],
)
async def test_a_file_that_cannot_be_read_leaves_the_keys_as_they_were(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("RS256", "one")))
    relay = Relay(f"file:{path}")
    if content is None:
        path.unlink()
    else:
        _replace(path, content)

    assert [await relay.accepts("one") for _ in range(3)] == [True] * 3
    assert relay.notices[-1] == f"jwks is the file {path}, which {problem}; the keys stay as they were"
    assert len([notice for notice in relay.notices if "stay as they were" in notice]) == 1
    _replace(path, jwks(jwk("RS256", "two")))
    assert await relay.accepts("two")

    if content is None:
        path.unlink()
    else:
        _replace(path, content)
    with pytest.raises(ConfigError) as caught:
        Relay(f"file:{path}")
    assert str(caught.value) == f"[access.jwt] jwks is the file {path}, which {problem}"


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example/keys",
        "https://login.example:8443/a?b=c",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://localhost/",
    ],
)
def test_keys_come_over_tls_or_from_this_machine(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://login.example/keys", "jwks must be https"),
        ("http://127.0.0.1.example/", "jwks must be https"),
        ("http://192.168.0.1/", "jwks must be https"),
        ("ftp://login.example/", "jwks must be a URL"),
        ("keys.json", "jwks must be a URL"),
        ("", "jwks must be a URL"),
        ("https://", "jwks must be a URL"),
        ("https://login.example/a b", "jwks must be a URL"),
        ("https://login.example/\u00e9", "jwks must be a URL"),
        ("https://login.example:99999/", "jwks must be a URL"),
        ("https://[::1", "jwks must be a URL"),
        ("https://ann:pw@login.example/", "jwks must hold no user name"),
        ("https://login.example/#keys", "jwks must hold no user name and no fragment"),
    ],
)
def test_other_addresses_are_an_error_at_the_start(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        JwtVerifier(settings(jwks=url))


def test_the_secret_of_an_hmac_is_not_fetched() -> None:
    with pytest.raises(ConfigError, match="jwks must be a file for HS256: a key of these is a secret"):
        JwtVerifier(settings("HS256", jwks="https://login.example/keys"))
