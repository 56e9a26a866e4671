"""Server-Sent Events as their bytes come in: lines, and the blocks that they make. No I/O."""

from typing import Final

__all__ = ["BLOCK_LIMIT", "FIELDS", "Block", "BlockReader"]

BLOCK_LIMIT: Final = 1024 * 1024
"""The most bytes of one block; the longest that a relay sends is some 256 KiB."""

FIELDS: Final = (b"id", b"event", b"data", b"retry")

_MARK: Final = b"\xef\xbb\xbf"


class Block:
    """What the lines of one block give to each field, in order. *begins* is the number of its first line.

    The properties are what an EventSource makes of it ([spec] HTML, 9.2.6); *fields* is all there was.
    """

    __slots__ = ("begins", "fields", "size")

    def __init__(self) -> None:
        self.begins = 0
        self.fields: dict[bytes, list[bytes]] = {field: [] for field in FIELDS}
        self.size = 0

    @property
    def event(self) -> str:
        """What kind of event it is; `message` where nothing is said."""
        return b"".join(self.fields[b"event"][-1:]).decode("utf-8", "replace") or "message"

    @property
    def data(self) -> bytes:
        """Its lines of data. Where there is nothing, there is no event either."""
        return b"\n".join(self.fields[b"data"])

    @property
    def id(self) -> str | None:
        """Where the reader is once it has this block, if that is said."""
        values = [value for value in self.fields[b"id"] if b"\0" not in value]
        return values[-1].decode("utf-8", "replace") if values else None

    @property
    def retry(self) -> int | None:
        """How many milliseconds to wait before coming back, if that is said. Never more than nine digits."""
        values = [int(value) for value in self.fields[b"retry"] if value.isdigit() and len(value) <= 9]
        return values[-1] if values else None


class BlockReader:
    """Puts a stream together from its bytes (`feed`), or from its lines (`take`)."""

    def __init__(self) -> None:
        self.block = Block()
        """The block that has not ended yet. [spec] At the end of the stream it is discarded."""
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> list[Block]:
        """The blocks that *data* ends, which goes on from what was fed before.

        Raises ValueError where a block is longer than BLOCK_LIMIT.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        blocks = [block for line in lines if (block := self.take(self._first(line).removesuffix(b"\r"))) is not None]
        self._check(len(self._rest))
        return blocks

    def take(self, line: bytes, number: int = 0) -> Block | None:
        """The block that *line* ends, if any; *line* comes without its own end, and *number* says which one it is.

        Comments and unknown fields are passed over. Raises ValueError where the block is longer than BLOCK_LIMIT.
        """
        if not line:
            ended, self.block = self.block, Block()
            return ended if ended.size else None
        field, _, value = line.partition(b":")
        if field in FIELDS:
            self.block.begins = self.block.begins or number
            self.block.fields[field].append(value.removeprefix(b" "))
            self._check(len(line) + 1)
            self.block.size += len(line) + 1
        return None

    def _first(self, line: bytes) -> bytes:
        """*line* without the byte order mark that the first one may have."""
        begun, self._begun = self._begun, True
        return line if begun else line.removeprefix(_MARK)

    def _check(self, more: int) -> None:
        if self.block.size + more > BLOCK_LIMIT:
            raise ValueError(f"a block is longer than {BLOCK_LIMIT:,} bytes, which no relay's is")
