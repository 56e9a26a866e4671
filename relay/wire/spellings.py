"""The spellings of a secret: as it is, escaped any way and any number of times, in base64 or in hexadecimal digits."""

import re
from array import array
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html.entities import html5
from typing import Final

from relay.text import late_pattern

__all__ = ["RUN", "Decoded", "Secrets", "decoded"]

RUN: Final = 8
"""How many characters of a secret, in a row, are too many; of a secret that is shorter, all of it."""

PASSES: Final = 8
"""How many kinds of escapes may lie within one another; a text with more of them is read by nobody."""

_GRAM: Final = 5
_STRIDE: Final = RUN - _GRAM + 1
_PLACES: Final = tuple(slice(first, None, _STRIDE) for first in range(_GRAM))
_ORIGINS: Final = 32
_IN_BASE64: Final = 6
"""The shortest secret that is looked for in base64: of a shorter one nothing would be left that is its own."""

_HEX: Final = "[2-7][0-9a-f]"
_ESCAPE: Final = late_pattern(
    rf"\\+(?:u\{{0*(?P<u>{_HEX})\}}|u(?:0000)?00(?P<v>{_HEX})|x(?P<x>{_HEX})|(?P<c>[^\w\s]|_))"
    rf"|%(?:25)*(?:u00)?(?P<p>{_HEX})"
    r"|&(?:amp;|#0*38;|#x0*26;)*"
    rf"(?:#0*(?P<d>[0-9]{{2,3}})(?:;|(?![0-9]))|#x0*(?P<h>{_HEX})(?:;|(?![0-9a-f]))|(?P<n>[a-z]{{2,32}});)",
    re.IGNORECASE,
)
_TELLTALE: Final = re.compile(r"[\\%&]")


class Decoded:
    """A text with its escapes resolved, as its final reader would have it.

    *text* is that, and `span` leads back to where a part of it was written. *whole* is false where there were more
    kinds of escapes within one another than anybody reads.
    """

    def __init__(self, text: str) -> None:
        self.text: str = text
        self.whole: bool = False
        self._places: array[int] | range = range(len(text) + 1)
        for _ in range(PASSES):
            if not self._resolve():
                self.whole = True
                return

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from *start* to *end* were written in the original."""
        return self._places[start], self._places[end]

    def _resolve(self) -> bool:
        text, before = self.text, self._places
        pieces: list[str] = []
        places = array("q")
        done = 0
        for match in _ESCAPE.finditer(text):
            if (character := _meant(match)) is None:
                continue
            start, end = match.span()
            pieces.append(text[done:start])
            pieces.append(character)
            places.extend(before[done : start + 1])
            done = end
        if not pieces:
            return False
        places.extend(before[done:])
        self.text = "".join(pieces) + text[done:]
        self._places = places
        return True


def decoded(text: str) -> Decoded | None:
    """*text* with its escapes resolved, None where it has none: most have not, and looking costs next to nothing."""
    return Decoded(text) if _TELLTALE.search(text) and _ESCAPE.search(text) else None


class Secrets:
    """Finds what a text holds of *secrets*, where RUN characters or more stand in a row."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = sorted({form for secret in secrets if secret for form in _forms(secret)}, key=len, reverse=True)
        self._short = [form for form in forms if len(form) < RUN]
        self._grams: defaultdict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
        for form in forms:
            if len(form) >= RUN:
                for place in range(len(form) - _GRAM + 1):
                    origins = self._grams[tuple(form[place : place + _GRAM])]
                    # A secret that repeats itself must not make the search take for ever.
                    origins += [(form, place)] if len(origins) < _ORIGINS else []

    def spans(self, text: str, *, short: bool = True) -> list[tuple[int, int]]:
        """Where those runs are; secrets shorter than a run only where *short* is set. Escapes are not resolved here."""
        found = list(self._runs(text)) if len(text) >= RUN and self._may_hold_a_run(text) else []
        for form in self._short if short else ():
            start = text.find(form)
            while start >= 0:
                found.append((start, start + len(form)))
                start = text.find(form, start + len(form))
        return found

    def _may_hold_a_run(self, text: str) -> bool:
        # Of a run of RUN characters, wherever it begins, one of these pieces is a part. `zip` makes them in half the
        # time that it takes to cut them out one by one.
        pieces = zip(*map(text.__getitem__, _PLACES), strict=False)
        return not self._grams.keys().isdisjoint(pieces)

    def _runs(self, text: str) -> Iterator[tuple[int, int]]:
        place, done = 0, 0
        while place <= len(text) - _GRAM:
            origins = self._grams.get(tuple(text[place : place + _GRAM]), ())
            runs = [_run(text, place, form, at, done) for form, at in origins]
            start, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
            if end - start >= RUN:
                yield start, end
                place = done = end
            else:
                place += _STRIDE


def _run(text: str, place: int, form: str, at: int, done: int) -> tuple[int, int]:
    """How far *text* around *place* is the same as *form* around *at*, not going back behind *done*."""
    start, end = place, place + _GRAM
    while start > done and at - (place - start) > 0 and text[start - 1] == form[at - (place - start) - 1]:
        start -= 1
    while end < len(text) and at + end - place < len(form) and text[end] == form[at + end - place]:
        end += 1
    return start, end


def _meant(match: re.Match[str]) -> str | None:
    """The character that an escape stands for, None where that is none that a secret can hold."""
    kind = match.lastgroup or ""
    written = match[kind]
    match kind:
        case "c":
            return written
        case "n":
            meant = html5.get(f"{written};") or html5.get(f"{written.lower()};", "")
        case "d":
            meant = chr(int(written))
        case _:
            meant = chr(int(written, 16))
    return meant if len(meant) == 1 and meant.isascii() and meant.isprintable() else None


def _forms(secret: str) -> Iterator[str]:
    """*secret* as it is found in a text whose escapes are resolved, or are not."""
    yield secret
    if (resolved := decoded(secret)) is not None:
        yield resolved.text
    if len(secret) < _IN_BASE64:
        return
    content = secret.encode()
    yield content.hex()
    yield content.hex().upper()
    for before in range(3):
        # Base64 depends on the bytes before: a group is three bytes. A character that is shared with them is left.
        first, last = -(-before * 4 // 3), (before + len(content)) * 4 // 3
        core = b64encode(bytes(before) + content)[first:last].decode()
        yield core
        yield core.replace("+", "-").replace("/", "_")
