"""An answer as it arrives: what of it has come counts, even where the rest never does."""

from collections.abc import Mapping
from typing import Final, Self

import aiohttp

__all__ = ["PartialResponse"]

_CHUNK: Final = 64 * 1024


class PartialResponse:
    """Status, headers and body as far as they came, the body no longer than *limit* bytes."""

    __slots__ = ("content", "headers", "limit", "status", "too_long")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.anew()

    def anew(self) -> Self:
        """Drop the bytes received so far: the request is repeated."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.content: bytes = b""
        self.too_long: bool = False
        return self

    async def read(self, payload: aiohttp.StreamReader) -> None:
        """Read the body, to its end or just over the limit. Raises what aiohttp does for one that breaks off.

        aiohttp decompresses no more than is read, so a gzip bomb ends here too.
        """
        if payload.is_eof() and payload.exception() is None:
            # All of it is there, as it is of most answers.
            content = payload.read_nowait(self.limit + 1)
            self.content, self.too_long = content[: self.limit], len(content) > self.limit
            return
        # Joined once: to add each piece to a list of 10 MB costs 2 s, most of it copying what was there.
        pieces: list[bytes] = []
        size = 0
        try:
            while not self.too_long and (piece := await payload.read(_CHUNK)):
                pieces.append(piece)
                size += len(piece)
                self.too_long = size > self.limit
                if payload.at_eof():
                    break
        finally:
            self.content = b"".join(pieces)[: self.limit]
