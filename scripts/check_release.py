#!/usr/bin/env python3
"""Check that a release is ready: the tag, the version and the newest release of the changelog are the same.

    scripts/check_release.py [TAG]

Exit status 0 and, on standard output, the notes of the release: its section of CHANGELOG.md. Otherwise status 1 and, on
standard error, one line for each problem that says what to do. Without TAG, version and changelog are compared alone.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_SECTION: Final = re.compile(r"^## \[(.+?)\](?: - (.+))?\n", re.MULTILINE)
_KIND: Final = re.compile(r"^### (.+)$", re.MULTILINE)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_KINDS: Final = ("Added", "Changed", "Fixed", "Removed")
_LINK_DEFINITIONS: Final = re.compile(r"^\[[^\]]+\]: .*$", re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Run the check and return the exit status."""
    version: str = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    changelog = (_ROOT / "CHANGELOG.md").read_text("utf-8")
    problems = [*problems_of_tag(arguments[0], version)] if arguments else []
    problems += problems_of_changelog(changelog, version)
    for problem in problems:
        print(f"check_release: {problem}", file=sys.stderr)
    if not problems:
        print(notes(changelog, version))
    return 1 if problems else 0


def problems_of_tag(tag: str, version: str) -> Iterator[str]:
    """Yield what is wrong with *tag* for a release of *version*."""
    if tag != f"v{version}":
        yield f"the tag is {tag}, but pyproject.toml says version {version}: tag it v{version}, or change the version"


def problems_of_changelog(changelog: str, version: str) -> Iterator[str]:
    """Yield what has to be done to *changelog* before *version* can be released."""
    sections = _sections(changelog)
    if sections.pop("Unreleased", (None, ""))[1]:
        yield f"CHANGELOG.md has lines below [Unreleased]: move them below [{version}]"
    newest = next(iter(sections), None)
    if newest != version:
        found = f"[{newest}]" if newest else "nothing"
        yield f"CHANGELOG.md has {found} as its newest release, but pyproject.toml says {version}: make them agree"
        return
    date, text = sections[newest]
    if date is None or not _DATE.fullmatch(date):
        yield f"[{version}] in CHANGELOG.md has no date: write ## [{version}] - YYYY-MM-DD"
    if not text:
        yield f"[{version}] in CHANGELOG.md is empty: say what has changed"
    kinds = _KIND.findall(text)
    if kinds != [kind for kind in _KINDS if kind in kinds]:
        yield f"[{version}] in CHANGELOG.md has the parts {', '.join(kinds)}: use {', '.join(_KINDS)}, in this order"


def notes(changelog: str, version: str) -> str:
    """Return the section of *version*, without its heading."""
    return _sections(changelog)[version][1]


def _sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Return date and text of each section by its name, in the order of the file."""
    _, *parts = _SECTION.split(_LINK_DEFINITIONS.sub("", changelog))
    return {name: (date, text.strip()) for name, date, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
