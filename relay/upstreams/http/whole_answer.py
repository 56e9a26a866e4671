"""An answer that comes in one piece, as nearly every answer to a poll does, read without a parser's objects.

aiohttp's parser makes a dozen objects of each answer, and takes longer than the kernel does to bring it. Here a plain
200 of a known length is cut in two, once all of it is certain; any other answer is left to the parser.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Head", "WholeAnswer", "whole_answer"]

_LONGEST_HEAD: Final = 4_096
_MOST_FIELDS: Final = 64
"""Well within what aiohttp's parser permits."""

_HEAD: Final = re.compile(rb"HTTP/1\.1 200 [ -~]*\r\n((?:[A-Za-z0-9-]+: [!-~][ -~]*\r\n)+)\r\n")

_NAME: Final = re.compile(rb"\n([a-z0-9-]+):")

_LENGTH: Final = re.compile(rb"\ncontent-length: ([0-9]{1,9})\r")

_ELSE: Final = frozenset({b"content-encoding", b"transfer-encoding", b"trailer", b"upgrade"})
"""Headers that make of an answer something else than its bytes."""

_KEPT: Final = b"\nconnection: keep-alive\r"


class WholeAnswer(NamedTuple):
    """A 200, read whole."""

    headers: "Head"
    body: bytes


class Head(Mapping[str, str]):
    """The headers of an answer, parsed when more is wanted of them than that they lack one. Names have any case."""

    __slots__ = ("_folded", "_parsed", "_raw")

    def __init__(self, raw: bytes, folded: bytes) -> None:
        """*raw* is lines, each name once, and *folded* is the same in lower case, behind a line break."""
        self._raw = raw
        self._folded = folded
        self._parsed: dict[str, str] | None = None

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of the header *key*, or *default*."""
        if b"\n%b:" % key.lower().encode() not in self._folded:
            return default
        return self[key]

    def __getitem__(self, key: str) -> str:
        wanted = key.lower()
        for name, value in self._all.items():
            if name.lower() == wanted:
                return value
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            lines = self._raw.decode("ascii").split("\r\n")[:-1]
            fields = (line.partition(": ") for line in lines)
            self._parsed = {name: value.rstrip(" ") for name, _, value in fields}
        return self._parsed


def whole_answer(data: bytes, limit: int) -> WholeAnswer | None:
    """The answer that *data* is, to its last byte, if it is a plain 200 with a body of at most *limit* bytes.

    None for anything else: more or less than one answer, chunks, a content coding, the end of a connection, a name that
    comes twice, and any head that is unusual in its form.
    """
    found = _HEAD.match(data, 0, _LONGEST_HEAD)
    if found is None:
        return None
    raw = found[1]
    folded = b"\n" + raw.lower()
    names = _NAME.findall(folded)
    known = set(names)
    if len(known) < len(names) or len(names) > _MOST_FIELDS or not known.isdisjoint(_ELSE):
        return None
    if b"connection" in known and _KEPT not in folded:
        return None
    length = _LENGTH.search(folded)
    if length is None or int(length[1]) > limit or len(data) - found.end() != int(length[1]):
        return None
    return WholeAnswer(Head(raw, folded), data[found.end() :])
