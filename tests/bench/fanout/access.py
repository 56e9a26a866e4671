"""What the readers of the benchmark prove their access with, and the settings of a relay that accepts it."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp.web import Application
from msgspec import Struct

from relay.config.access_settings import AccessSettings, KeySettings
from relay.notices import notice
from relay.secret import Secret
from web import GUARD
from web.access.keys import ApiKeys
from web.access.tickets import claims_of

__all__ = ["WAYS", "Way"]

KEY: Final = "rlk_bench-0123456789-0123456789-0123456789"
DAY: Final = 86_400.0


class Way(Struct, frozen=True):
    """*field* is the header field that a reader sends, whose access is that of *owner*."""

    owner: str
    settings: Callable[[], AccessSettings | None]
    field: Callable[[Application], str]


def _keys() -> AccessSettings:
    """Among other keys, as there are in a relay with users."""
    others = tuple(KeySettings(name=f"user-{number}", key=Secret(f"{KEY}-{number}")) for number in range(20))
    return AccessSettings(keys=(*others, KeySettings(name="bench", key=Secret(KEY))))


def _tokens() -> AccessSettings:
    from tests.web.access.issuer import settings

    return AccessSettings(jwt=settings("HS256"))


def _token(_: Application) -> str:
    from tests.web.access.issuer import mint

    now = int(time.time())
    return f"Authorization: Bearer {mint('HS256', sub='bench', scope='jobs:read', iat=now, exp=now + 3_600)}"


def _session(app: Application) -> str:
    guard = app[GUARD]
    keys = ApiKeys(_keys().keys, notice).by_credential.values()
    (access,) = [key for key in keys if key.subject == "key:bench"]
    value = guard.signer.sign("session", claims_of(access, guard.now() + DAY, guard.now()))
    return f"Cookie: relay-{guard.signer.id}={value}"


WAYS: Final[Mapping[str, Way]] = {
    "none": Way("", lambda: None, lambda _: ""),
    "key": Way("key:bench", _keys, lambda _: f"Authorization: Bearer {KEY}"),
    "jwt": Way("jwt:bench", _tokens, _token),
    "session": Way("key:bench", _keys, _session),
}
"""By the name of the option `--access`."""
