"""Commands between nodes, as entries of a stream of Redis or Valkey that every node reads."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import ValidationError, convert
from msgspec.structs import replace
from redis.exceptions import ResponseError

from relay.errors import UsageError
from relay.journal.redis._client import EngineClient
from relay.journal.shared import Command

__all__ = ["BODY_LIMIT", "COMMANDS", "RedisCommands", "read_command"]

COMMANDS: Final = 10_000
"""About how many commands are kept, the newest; a node that was away for longer has missed what was for it."""

BODY_LIMIT: Final = 1024 * 1024
"""The most bytes of a command's body."""


class RedisCommands:
    """A `relay.journal.shared.Commands`: appends to the stream `{name}:c`."""

    def __init__(self, client: EngineClient, name: str) -> None:
        self._client = client
        self._key = f"{{{name}}}:c"
        self._newest_then: bytes | None = None

    async def send(self, command: Command) -> None:
        """Append *command*. Raises JournalError if it may not have been sent, UsageError for a body over the limit."""
        if len(command.body) > BODY_LIMIT:
            raise UsageError(f"a command has {len(command.body):,} bytes; at most {BODY_LIMIT:,} go from node to node")
        fields: dict[Any, Any] = {
            "id": command.id,
            "op": command.op,
            "sender": command.sender,
            "shard": command.shard,
            "to": command.to,
            "re": command.re,
            "body": command.body,
        }
        async with self._client.talk() as redis:
            await redis.xadd(self._key, fields, maxlen=COMMANDS, approximate=True)

    async def tidy(self) -> None:
        """Remove the commands that were there already at the last call of this: nobody waits for answers to them now.

        So a minute of them is kept, whatever their size. Redis before 6.2 keeps COMMANDS of them. Raises JournalError.
        """
        async with self._client.talk() as redis:
            client: Any = redis
            newest = await client.xrevrange(self._key, count=1)
            if self._newest_then is not None:
                with suppress(ResponseError):
                    await client.xtrim(self._key, minid=self._newest_then, approximate=True)
        self._newest_then = newest[0][0] if newest else None


def read_command(fields: Mapping[bytes, bytes]) -> Command | None:
    """The command that an entry of the stream is; None if it is none, such as one of a later version."""
    try:
        text = {name.decode(): value.decode() for name, value in fields.items() if name != b"body"}
        command = convert(text, Command, strict=False)
    except (UnicodeDecodeError, ValidationError):
        return None
    return replace(command, body=fields.get(b"body", b"{}"))
