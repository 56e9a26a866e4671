"""An account's own token is a JSON Web Token as Kling takes it, and is made anew before it runs out."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.cli.build import build_upstream
from relay.errors import ConfigError, UsageError
from relay.events import Exchange
from relay.secret import Secret
from relay.testing import ManualClock
from relay.testing.scripted.kling import ScriptedKling
from relay.upstreams.dialects.kling import Kling, KlingSettings
from relay.upstreams.http.jwt import SignedToken

START = 1767225600
"""2026-01-01 00:00 UTC, where the clock starts."""


def opened(token: str, key: str = "canary-secret") -> dict[str, Any]:
    """The claims of *token*, whose header and signature are what they must be."""
    head, claims, signature = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    assert json.loads(head) == {"alg": "HS256", "typ": "JWT"}
    assert signature == hmac.new(key.encode(), token.rpartition(".")[0].encode(), hashlib.sha256).digest()
    assert "=" not in token
    claimed: dict[str, Any] = json.loads(claims)
    return claimed


def test_the_token_names_the_access_key_and_lasts_half_an_hour_from_a_little_before_now() -> None:
    token = SignedToken("canary-access", "canary-secret", clock=ManualClock())()
    assert opened(token) == {"iss": "canary-access", "exp": START + 1800, "nbf": START - 5}


async def test_the_same_token_is_used_for_25_minutes_and_then_another() -> None:
    clock = ManualClock()
    token = SignedToken("canary-access", "canary-secret", clock=clock)
    first = token()
    await clock.advance(1499)
    late = token()
    await clock.advance(1)
    assert (late == first, opened(token())["exp"]) == (True, START + 1500 + 1800)


def test_a_time_of_day_that_has_gone_back_makes_another_token_since_the_old_one_is_not_valid_yet() -> None:
    class Jumping(ManualClock):
        offset = timedelta(0)

        def now(self) -> datetime:
            return datetime.fromtimestamp(START, UTC) + self.offset

    clock = Jumping()
    token = SignedToken("canary-access", "canary-secret", clock=clock)
    token()
    clock.offset = timedelta(hours=-1)
    assert opened(token())["nbf"] == START - 3600 - 5


def test_a_key_that_is_replaced_signs_the_next_token() -> None:
    keys = ["old", "new"]
    token = SignedToken("canary-access", lambda: keys.pop(0), clock=ManualClock())
    claims = opened(token(), "old")
    assert opened(token(), "new") == claims


def test_neither_key_is_in_a_repr_and_an_empty_one_is_refused() -> None:
    assert "canary" not in repr(SignedToken("canary-access", "canary-secret"))
    with pytest.raises(UsageError, match="not empty"):
        SignedToken("canary-access", "")()


async def test_kling_is_asked_with_a_token_of_the_hour_and_no_key_or_token_is_told() -> None:
    """A scripted Kling that takes what is signed with the secret key, and nothing else."""
    clock = ManualClock()

    class Strict(ScriptedKling):
        def authorised(self, request: Any) -> bool:
            claims = opened(request.headers["Authorization"].removeprefix("Bearer "))
            now = clock.now().timestamp()
            return bool(claims["iss"] == "canary-access" and claims["nbf"] <= now < claims["exp"])

    async with Strict(clock=clock) as server:
        settings = KlingSettings(
            base_url=server.url, access_key=Secret("canary-access"), secret_key=Secret("canary-secret")
        )
        heard: list[Exchange] = []
        upstream = build_upstream(settings, clock)
        assert isinstance(upstream, Kling)
        async with upstream:
            upstream.on_exchange = heard.append
            task = await upstream.submit({"prompt": "[never-finishes] a cat"})
            token_version = upstream.token_version()
            await clock.advance(7200)
            answer = await upstream.observe([task])
    assert (answer.listed, upstream.token_version() != token_version) == (1, True)
    assert all(word not in repr(heard) for word in ("canary", "eyJ"))


@pytest.mark.parametrize("given", [(), ("token", "access_key"), ("access_key",), ("secret_key",)])
def test_kling_needs_a_token_or_both_keys(given: tuple[str, ...]) -> None:
    settings = KlingSettings(base_url="https://k", **dict.fromkeys(given, Secret("canary")))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^upstream kling: give either token, or access_key and secret_key$"):
        build_upstream(settings, ManualClock())
