"""Finds words and clause openings that this project does not use, in documentation, docstrings, comments and messages.

`python -m tests.architecture.words relay/bus docs/how-to` lists the findings of these rooms, one a line; without a
room, of all.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ROOMS", "Finding", "findings", "findings_in", "room_of"]

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

WORDS: Final = {
    "told": "published, sent, returned, reported",
    "tell": "send, report, show",
    "tells": "sends, reports, shows",
    "telling": "sending, reporting, showing",
    "heard": "received",
    "hear": "receive",
    "hears": "receives",
    "said": "reported, named, stated",
    "asked": "polled, requested",
    "taken": "in use, read, accepted, moved",
    "amiss": "wrong, a problem",
    "befall": "happen to",
    "befalls": "happens to",
    "befell": "happened to",
    "how-manieth": "offset, sequence number",
    "whoever": "a client that, a caller that",
    "doorman": "idle timeout",
    "gated": "throttled",
}
"""Words that are not used, and those that are used instead."""

# A clause begins with a text, paragraph, list item, table cell or heading, or after a mark that ends another clause.
_BEGINNING: Final = (
    r"(?:\A|\n[ \t]*\n|^[ \t]*(?:[-*+]|\d+\.|#+|>|:param \w+:)[ \t]+|\|[ \t]*|[.:;!?][\"')*_]*\s+|[(\[]|(?<=\w)[ ]-[ ])"
    r"[\s*_\"'(]*"
)
# A question may begin so: nothing but words up to a question mark.
_NO_QUESTION: Final = r"\b(?![^.:;?!|]*\?)"

_VERBS: Final = "is|was|are|were|it|he|has|had|does|can|cannot|comes|waits|remains|follows|no|none"

OPENINGS: Final = {
    rf"{_BEGINNING}[Ww]ho(?:ever)?{_NO_QUESTION}": "name the subject: the client, the caller, the operator",
    rf"{_BEGINNING}[Ww]hat(?:ever)?\s+(?:{_VERBS}){_NO_QUESTION}": "name the subject: a noun, not 'what ...'",
    r"\b(?:to|from|for|by|of|with|at|on|than|but|and|or)\s+who\b(?!\s+(?:may|can)\b)": "a noun: a client that ...",
    r",\s+what\s+(?:is|was|are|were)\b": "a noun, not 'what ...'",
}
"""Openings of clauses that are not used, and the advice for each."""

_WORDS: Final = re.compile(rf"\b(?:{'|'.join(map(re.escape, WORDS))})\b", re.IGNORECASE)
_OPENINGS: Final = [(re.compile(opening, re.MULTILINE), advice) for opening, advice in OPENINGS.items()]

RECORD_TEXTS: Final = re.compile(r"the upstream tells of no (?:task|video|generation)|which is not asked")
"""Sentences in the texts of records, which do not change."""

_CODE: Final = re.compile(
    r"(?<![*\w])\*\w+\*(?![*\w])|"
    r"^[ \t]*```.*?^[ \t]*```[ \t]*$|<!--.*?-->|``[^`]*``|`[^`\n]*(?:\n[^`\n]+)?`|\]\([^)\s]*\)",
    re.MULTILINE | re.DOTALL,
)

FROZEN: Final = frozenset({"no longer followed; this upstream cannot be told to stop"})
"""Texts of events, which are on the wire and stay as they are."""


class Finding(NamedTuple):
    """One word or opening: where, the words about it, and what to write instead."""

    path: str
    line: int
    words: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: ...{self.words}...  ({self.advice})"


def room_of(path: Path) -> str:
    """The folder of a file, as `relay/bus`; a page beside the packages is a room of its own."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:-1]) or parts[0]


def _files() -> Iterator[Path]:
    for package in ("relay", "sinks", "web"):
        yield from sorted((ROOT / package).rglob("*.py"))
    yield from (path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts)
    yield from (ROOT / "docs").glob("*.py")
    yield from (ROOT / name for name in PAGES)


ROOMS: Final = sorted({room_of(path) for path in _files()})


def findings(room: str) -> list[Finding]:
    """The findings in the files of *room*, without those of the rooms below it."""
    return [finding for path in _files() if room_of(path) == room for finding in findings_in(path)]


def findings_in(path: Path) -> Iterator[Finding]:
    """The findings in one file, in the order of its lines."""
    source = path.read_text(encoding="utf-8")
    texts = _prose_of_python(source) if path.suffix == ".py" else [(1, source)]
    name = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    found = {
        Finding(name, line + text.count("\n", 0, match.end()), _around(text, match), advice)
        for line, text in ((line, RECORD_TEXTS.sub("frozen", _CODE.sub(_blank, text))) for line, text in texts)
        for match, advice in _matches(text)
    }
    yield from sorted(found, key=lambda finding: finding.line)


def _matches(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for match in _WORDS.finditer(text):
        yield match, f"rather: {WORDS[match[0].lower()]}"
    for pattern, advice in _OPENINGS:
        yield from ((match, advice) for match in pattern.finditer(text))


def _blank(match: re.Match[str]) -> str:
    """As many lines of nothing as the code had; a name stands for code within a line."""
    return "\n" * match[0].count("\n") or "code"


def _around(text: str, match: re.Match[str]) -> str:
    return " ".join(text[max(0, match.start() - 20) : match.end() + 30].split())


def _prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and messages of a module, each with the line on which it begins.

    A text without a space in it is a name or a key, and no message.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node.value in FROZEN:
            continue
        if " " in node.value.strip():
            yield node.lineno, node.value
    yield from _comments(source)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Each run of comment lines as one text."""
    begun, lines = 0, list[str]()
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type != tokenize.COMMENT:
            continue
        text = token.string.lstrip("#:! ").removeprefix("noqa")
        own_line = not token.line[: token.start[1]].strip()
        if lines and own_line and token.start[0] == begun + len(lines):
            lines.append(text)
            continue
        if lines:
            yield begun, "\n".join(lines)
        begun, lines = token.start[0], [text]
    if lines:
        yield begun, "\n".join(lines)


if __name__ == "__main__":
    rooms = [room.rstrip("/") for room in sys.argv[1:]] or ROOMS
    for finding in (finding for room in rooms for finding in findings(room)):
        sys.stdout.write(f"{finding}\n")
