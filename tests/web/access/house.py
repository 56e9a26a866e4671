"""A relay with access behind the sockets of `relay serve`, and requests to it as bytes, whatever is in them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp.web import Application
from msgspec import Struct
from msgspec.structs import replace

from relay import Job, Journal, Relay
from relay.cli.serving import serving
from relay.config.access_settings import AccessSettings, KeySettings, ProxySettings
from relay.config.settings import GatewaySettings
from relay.jobs.observations import Observation
from relay.secret import Secret
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep
from tests.web.access.issuer import settings as jwt_settings
from tests.web.access.keys import SETTINGS
from tests.web.raw import Answer, Door, request
from web import GUARD, Guard, create_app
from web.request_failures import FAILURES
from web.streaming.keys import STREAMS

__all__ = ["ALL_WAYS", "LISTED_ORIGIN", "PROXY_SECRET", "SCOPE_KEYS", "House", "house"]

SCOPE_KEYS: Final = {
    scope: f"rlk_{scope.replace(':', '-')}-0123456789-0123456789-0123456789"
    for scope in ("jobs:read", "jobs:submit", "jobs:cancel", "operate")
}
"""A key for each scope, which has no other."""

PROXY_SECRET: Final = "proxy-0123456789-0123456789-0123456789-01"
LISTED_ORIGIN: Final = "https://app.example"

ALL_WAYS: Final = replace(
    SETTINGS,
    keys=(
        *SETTINGS.keys,
        *(
            KeySettings(name=scope.replace(":", "-"), key=Secret(key), scopes=scope)
            for scope, key in SCOPE_KEYS.items()
        ),
    ),
    jwt=jwt_settings(),
    proxy=ProxySettings(networks=("127.0.0.0/8",), secret=Secret(PROXY_SECRET), scopes="jobs:read jobs:submit"),
    failures=10_000,
)
"""Every way in."""


class House(Struct, frozen=True):
    """A relay, and what is around it."""

    relay: Relay
    upstream: TwoStep
    app: Application
    clock: ManualClock
    door: Door

    @property
    def guard(self) -> Guard:
        return self.app[GUARD]

    def job_of(self, owner: str, task: str = "t") -> Job:
        """The job of *owner* that follows *task*."""
        return self.relay.follow("scripted", task, owner)

    async def ask(self, line: str, *fields: str, body: bytes = b"") -> Answer:
        """The answer to one request; of a stream, the head alone."""
        answered = await self.door.ask(request(f"{line} HTTP/1.1", "Connection: close", *fields, body=body))
        assert answered is not None, line
        return answered


@asynccontextmanager
async def house(
    settings: AccessSettings | None = ALL_WAYS,
    *,
    journal: Journal | None = None,
    first: int = 0,
    prepare: Callable[[Application], object] = bool,
    **options: Any,
) -> AsyncGenerator[House]:
    """A relay whose jobs are job_0, job_1 and so on, and run for ever unless a test ends them.

    *first* is the number of the first one; *prepare* is called with the application before it starts.
    """
    clock, numbers = ManualClock(), count(first)
    upstream = TwoStep(_runs)
    relay = Relay([upstream], clock=clock, journal=journal, new_job_id=lambda: f"job_{next(numbers)}")
    defaults = {
        "send_timeout": 3_600,
        "slow_after": 3_600,
        "hosts": {"localhost"},
        "origins": {LISTED_ORIGIN},
        "gateway": GatewaySettings(content="redirect"),
    }
    app = create_app(relay, access=settings, **{**defaults, **options})
    prepare(app)
    async with serving(app, "127.0.0.1", 0) as address:
        door = Door(urlsplit(address).port or 0, app[FAILURES], app[STREAMS])
        yield House(relay, upstream, app, clock, door)


def _runs(tasks: Any) -> dict[str, Observation]:
    return dict.fromkeys(tasks, RUNNING)
