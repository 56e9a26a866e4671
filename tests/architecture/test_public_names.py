"""Public is what docs/reference/python.md lists, no more, no less; programs in the documentation use nothing else."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.plan import modules

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
PAGES: Final = sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md")} - set((ROOT / "docs/_build").rglob("*.md")))

DIRECTIVE: Final = re.compile(r"^\.\. auto(?:class|data|exception|function):: ([\w.]+)$", re.MULTILINE)
BLOCK: Final = re.compile(
    r"^[ \t]*```(?:python|\{code-block\} python)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL
)


def exported(module: str) -> set[str]:
    return set(import_module(module).__all__)


def table() -> dict[str, set[str]]:
    """The public names of each public module, as the page's table lists them."""
    rows: dict[str, set[str]] = {}
    for module, names in re.findall(r"^\| `([\w.]+)` \| (.*) \|$", PAGE, re.MULTILINE):
        listed = set(re.findall(r"`([\w.]+)`", names)) - {"relay"}
        if listed == {f"{module}.__all__"}:
            listed = exported(module)
        elif "that `relay` exports" in names:
            listed |= exported(module) & exported("relay")
        rows[module] = listed
    return rows


PUBLIC: Final = table()


def test_the_packages_that_a_user_imports_are_public_as_a_whole() -> None:
    whole = {module for module, names in PUBLIC.items() if names == exported(module)}

    assert whole >= {"relay", "relay.upstreams", "relay.testing", "sinks", "web"}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_name_is_one_that_its_module_exports(module: str) -> None:
    assert (PUBLIC[module] - exported(module), "" in PUBLIC[module]) == (set(), False)


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_name_is_described_on_the_page(module: str) -> None:
    described = set(DIRECTIVE.findall(PAGE))
    prose = set(re.findall(r"`(?:[\w.]+\.)?(\w+)", PAGE.partition("## relay\n")[2]))
    elsewhere = exported("relay") if module in ("relay.errors", "relay.events") else set()

    missing = {name for name in PUBLIC[module] - elsewhere if f"{module}.{name}" not in described and name not in prose}

    assert missing == set()


def test_nothing_is_described_on_the_page_that_is_not_public() -> None:
    described = {tuple(name.rpartition(".")[::2]) for name in DIRECTIVE.findall(PAGE)}

    assert {(module, name) for module, name in described if name not in PUBLIC.get(module, set())} == set()


def test_every_public_module_is_a_module_of_ours() -> None:
    assert PUBLIC.keys() <= modules().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_program_in_the_documentation_imports_public_names_only(page: Path) -> None:
    programs = (match[1] for match in BLOCK.finditer(page.read_text(encoding="utf-8")))

    assert [name for program in programs for name in private_imports(program)] == []


@pytest.mark.parametrize(
    ("program", "private"),
    [
        ("from relay import Relay, Nothing", ["relay.Nothing"]),
        ("from relay.polling.breaker import Breaker", ["relay.polling.breaker.Breaker"]),
        ("import relay.bus.writer", ["relay.bus.writer"]),
        ("import relay, os\nfrom relay.clock import Clock", []),
    ],
)
def test_a_private_import_is_found(program: str, private: list[str]) -> None:
    assert list(private_imports(program)) == private


def private_imports(program: str) -> Iterator[str]:
    """The names of ours that *program* imports, and that are not public; none if it is only a part of a program."""
    try:
        tree = ast.parse(program)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if _ours(name.name) and name.name not in PUBLIC)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and _ours(node.module):
            public = PUBLIC.get(node.module, set())
            yield from (f"{node.module}.{name.name}" for name in node.names if name.name not in public)


def _ours(module: str) -> bool:
    return module.split(".")[0] in ("relay", "sinks", "web")
