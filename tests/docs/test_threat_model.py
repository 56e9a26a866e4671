"""Each threat of the threat model has a defence, and tests that exist."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")

TEST = re.compile(r"`(test_\w+)`")
ATTACKERS = [
    "A page in the browser of an operator or a user",
    "A user",
    "A client without an access",
    "Doors: requests that are odd, or made to cost much",
    "A neighbour on the machine",
    "An upstream, and receivers of records",
    "A sender of webhooks",
    "A proxy",
    "The network and the programs around a shared engine",
]


@cache
def names() -> frozenset[str]:
    """The name of every test."""
    found = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    return frozenset(name for path in (ROOT / "tests").rglob("test_*.py") for name in found.findall(path.read_text()))


def rows(heading: str) -> Iterator[tuple[str, str, str]]:
    """The threats of one attacker, each with its defence and its tests."""
    _, found, below = PAGE.partition(f"\n## {heading}\n")
    assert found, f"there is no {heading!r}"
    for line in below.partition("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith(("| ---", "| threat |")):
            threat, defence, shown = (cell.strip() for cell in line.strip("|").split(" | "))
            yield threat, defence, shown


@pytest.mark.parametrize("name", sorted(set(TEST.findall(PAGE))))
def test_every_test_that_the_threat_model_names_exists(name: str) -> None:
    assert name in names()


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_threat_has_a_defence_and_a_test(attacker: str) -> None:
    found = list(rows(attacker))

    assert len(found) >= 5
    assert [threat for threat, defence, shown in found if not defence or not TEST.search(shown)] == []


def test_every_section_with_a_table_of_threats_is_an_attacker() -> None:
    sections = re.findall(r"^## (.+)\n(?:(?!^## )[\s\S])*?^\| threat \|", PAGE, re.MULTILINE)

    assert sections == ATTACKERS


def test_what_is_accepted_is_said_and_what_can_be_shown_is_shown() -> None:
    accepted = PAGE.partition("\n## Accepted\n")[2].partition("\n## ")[0]
    shown = (ROOT / "tests" / "web" / "access" / "test_accepted.py").read_text(encoding="utf-8")

    assert accepted.count("\n- **") >= 10
    assert set(TEST.findall(accepted)) >= set(re.findall(r"def (test_accepted_\w+)", shown))
