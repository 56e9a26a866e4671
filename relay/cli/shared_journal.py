"""The journal of a relay that shares it with others, as settings describe it, opened once its server is there."""

import re
import socket
from collections.abc import Sequence
from typing import Final

from relay import ConfigError
from relay.cli.patience import Patience
from relay.config.settings import Settings
from relay.journal.base import StoredJob
from relay.journal.redis.journal import RedisJournal

__all__ = ["shared_journal"]

_NAME_LENGTH: Final = 48
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


def shared_journal(settings: Settings, patience: Patience | None = None) -> RedisJournal:
    """The journal at the address in *settings*; with *patience*, opening it waits for a server that is not there.

    Raises ConfigError for an address that cannot be one; nothing is connected yet.
    """
    try:
        return _PatientJournal(settings, patience)
    except ConfigError as error:
        raise ConfigError(f"[journal] {error}") from None


class _PatientJournal(RedisJournal):
    def __init__(self, settings: Settings, patience: Patience | None) -> None:
        cluster = settings.cluster
        super().__init__(
            settings.journal.reveal(), settings.journal.keep, name=cluster.name, node=cluster.node or _host_name()
        )
        self._patience = patience

    async def open(self) -> Sequence[StoredJob]:
        if self._patience is None:
            return await super().open()
        return await self._patience.until_done(super().open)


def _host_name() -> str:
    """The name of this machine, as far as it can be one of a node."""
    return _NOT_IN_A_NAME.sub("-", socket.gethostname()).strip("-._")[:_NAME_LENGTH] or "node"
