"""The keys of one journal in the engine: all with one hash tag, so that a cluster of engines keeps them together."""

import re
from typing import Final, NamedTuple

from relay.errors import ConfigError

__all__ = ["EpochKeys", "Keys", "checked_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class EpochKeys(NamedTuple):
    """The keys of one epoch; they expire once a new one has begun.

    *stream*: the entries, by offset. *states*: job -> "seq offset first JSON", its newest state, and the offsets of its
    newest and its first entry. *unique*: texts that no two jobs may share -> job. *batches*: node -> the answer to its
    last batch.
    """

    stream: str
    states: str
    unique: str
    batches: str


class Keys:
    """The keys of the journal *name*, which has passed `checked_name`.

    *meta*: a hash of epoch, generation (*gen*), head, base, the heads with which generations began (*since*), and the
    run id of the engine (*rid*). *leases*: shard -> "owner token beat at the claim". *tokens*: the highest token.
    *nodes*: a set. *commands* and *claims*: streams.
    """

    def __init__(self, name: str) -> None:
        self.prefix: str = f"{{{name}}}"
        self.meta: str = f"{self.prefix}:m"
        self.leases: str = f"{self.prefix}:l"
        self.tokens: str = f"{self.prefix}:t"
        self.nodes: str = f"{self.prefix}:n"
        self.commands: str = f"{self.prefix}:c"
        self.claims: str = f"{self.prefix}:claims"

    def of(self, epoch: str) -> EpochKeys:
        """The keys of *epoch*."""
        return EpochKeys(*(f"{self.prefix}:{kind}:{epoch}" for kind in "sjub"))


def checked_name(name: str, what: str) -> str:
    """*name*, if it can be a part of a key or of an entry. Raises ConfigError, which calls it *what*."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{what} is 1 to 64 letters, digits, '.', '_' or '-'")
    return name
