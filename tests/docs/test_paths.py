"""Every file and module of ours that the documentation names exists."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"(?:relay|sinks|web|tests|docs|scripts|requirements)/[\w./-]*")
MODULE = re.compile(r"(?:relay|sinks|web|tests)(?:\.\w+)+")
FORMER = re.compile(r"^\| [^|]+ (?=\|)|^- `[^`]+` is gone", re.MULTILINE)
"""Names as they were, on the page of upgrades: the left column of a table, and the names that are gone."""

NO_MODULES = {
    "relay.toml",
    "relay.db",
    "relay.example",
    "relay.js",
    "relay.d.ts",
    "relay.service",
    "web.example",
    "relay.records",
}
"""Names that look like a module of ours, and are a file, a host or a logger."""


def code_of(page: Path) -> list[str]:
    """The pieces of code within the sentences of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return CODE.findall(FORMER.sub("", text) if page.name == "upgrade.md" else text)


def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = [code for code in code_of(page) if FILE.fullmatch(code)]

    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    # Attributes of OpenTelemetry look like modules, too; tests/sinks/test_otel.py compares them with the code.
    named = {code for code in code_of(page) if MODULE.fullmatch(code)} - NO_MODULES if page.stem != "otel" else set()

    assert {name for name in named if not exists(name)} == set()


@pytest.mark.parametrize("name", ["relay.bus.no_such", "relay.nothing", "relay.events.Record.nothing"])
def test_a_module_that_does_not_exist_is_found(name: str) -> None:
    assert exists("relay.bus.bus.Bus.publish")
    assert not exists(name)
