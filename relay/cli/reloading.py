"""[access] of a relay that runs: the table is read again on SIGHUP, and files of keys whenever they have changed."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from relay import ConfigError, Relay
from relay.cli import say
from relay.cli.access_lines import access_lines
from relay.cli.redaction import redactor_of, secrets_in
from relay.cli.stderr import hide
from relay.clock import Clock
from relay.config import load_access
from relay.config.access_settings import AccessSettings
from relay.config.settings import Settings
from relay.supervision.supervisor import Supervisor, stop
from web import Guard
from web.access.signing import Signer

__all__ = ["LOOK_EVERY", "refreshing", "reload_of"]

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the files of keys; what a key no longer opens ends within five."""

_ENDS_WITHIN: Final = 1.0


def reload_of(guard: Guard, relay: Relay, config: Path, settings: Settings) -> Callable[[], None]:
    """What reads [access] of the file *config* again, and lets *guard* take it over; *settings* are those of the start.

    If the file cannot be read, or has no such table any more, everything stays as it was, with one line about it.
    """

    def reload() -> None:
        try:
            access = load_access(config, os.environ)
            if access is None:
                raise ConfigError(f"{config} has no [access] any more; restart the relay to serve without")
            guard.reload(access)
        except ConfigError as error:
            say(f"[access] stays as it was: {error}")
            return
        hide(redactor_of(replace(settings, access=access)))
        relay.redactor.learn(secret.reveal() for secret in secrets_in(access))
        say(f"[access] of {config} is read again")
        for line in access_lines(access):
            say(line)
        if _signs_otherwise(access, settings, guard.signer):
            say("signing_key is another one now, which counts from the next start of the relay")

    return reload


def _signs_otherwise(access: AccessSettings, at_start: Settings, signer: Signer) -> bool:
    """Whether *access* has another key that signs than *signer*."""
    if access.signing_key is None:
        return at_start.access is not None and at_start.access.signing_key is not None
    return Signer(access.signing_key.reveal().encode()).id != signer.id


@asynccontextmanager
async def refreshing(guard: Guard, clock: Clock) -> AsyncGenerator[None]:
    """While entered, keys whose files have changed are read again, every LOOK_EVERY seconds."""

    async def look() -> None:
        while True:
            await clock.sleep(LOOK_EVERY)
            guard.refresh()

    task = Supervisor(clock, say).start("the look at the files of keys", look)
    try:
        yield
    finally:
        await stop([task], _ENDS_WITHIN)
