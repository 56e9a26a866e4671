"""Sees that every link, anchor and picture within the built documentation leads somewhere.

`python docs/links.py docs/_build` prints those that do not, one a line, and ends with status 1 if there are any. Sphinx
itself checks the links that pages write; this also checks those that it makes: tables of contents, terms, the index.
Links to other hosts are `make docs LINKS=outside`.
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WITH_LINKS = {"href", "src"}


class Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        for name, value in attrs:
            if name in WITH_LINKS and value is not None:
                self.links.add(value)
            elif name == "id" and value is not None:
                self.anchors.add(value)


@cache
def page(path: Path) -> Page:
    """The page in this file, read once."""
    return Page(path)


def broken(root: Path) -> Iterator[str]:
    """Each link of a page below *root* that leads to no file or no anchor, with its page."""
    for path in sorted(root.rglob("*.html")):
        for link in sorted(page(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(root)}: {link} is no file"
            elif target.suffix == ".html" and unquote(parts.fragment) not in page(target).anchors:
                yield f"{path.relative_to(root)}: {link} is no anchor"


if __name__ == "__main__":
    found = list(broken(Path(sys.argv[1]).resolve()))
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
