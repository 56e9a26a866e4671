"""docs/links.py finds links of the built documentation that lead nowhere."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROKEN: Callable[[Path], Iterator[str]] = runpy.run_path(str(ROOT / "docs" / "links.py"))["broken"]


def built(root: Path, **pages: str) -> Path:
    """A folder of built pages, each with this body."""
    for name, body in pages.items():
        (root / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return root.resolve()


def test_links_to_pages_anchors_pictures_and_other_hosts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bus.svg").write_text("<svg/>", encoding="utf-8")
    root = built(
        tmp_path,
        index='<a href="other.html#here">a</a><a href="https://host.example/">c</a><img src="bus.svg">',
        other='<h1 id="here">Here</h1>',
    )

    assert list(BROKEN(root)) == []


def test_a_link_to_no_page_no_anchor_or_no_picture_is_found_with_its_page(tmp_path: Path) -> None:
    root = built(
        tmp_path,
        index='<a href="gone.html">a</a><a href="other.html#gone">b</a><img src="gone.svg">',
        other="<h1>Other</h1>",
    )

    assert list(BROKEN(root)) == [
        "index.html: gone.html is no file",
        "index.html: gone.svg is no file",
        "index.html: other.html#gone is no anchor",
    ]
