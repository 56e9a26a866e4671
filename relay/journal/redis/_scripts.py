"""The scripts that the engine runs as one: each is a file of `scripts/`, and is sent again where the engine lost it."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

__all__ = ["Script"]


class Script:
    """The script in `scripts/NAME.lua`. It checks all before its first write: an error after that undoes nothing.

    With *shared*, the functions of `scripts/shared.lua` stand in front of it.
    """

    def __init__(self, name: str, *, shared: bool = False) -> None:
        folder = files("relay.journal.redis").joinpath("scripts")
        self._text = b"".join(folder.joinpath(f"{part}.lua").read_bytes() for part in ["shared"] * shared + [name])
        self._digest = sha1(self._text, usedforsecurity=False).hexdigest()  # the name that the engine gives it

    async def __call__(
        self, redis: Redis, keys: Sequence[str], arguments: Sequence[str | bytes | int] = (), /
    ) -> Any:  # the shape of an answer is known to its caller alone
        """Run it. A restart, a failover and SCRIPT FLUSH lose it; nothing ran then, so it is sent whole.

        Raises as the client does.
        """
        client: Any = redis
        try:
            return await client.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *arguments)
