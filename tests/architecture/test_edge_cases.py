"""What tests/edge_cases.toml says of the tests is so."""

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CASES: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests" / "edge_cases.toml").read_text())


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in this file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    nodes = ast.walk(ast.parse(file.read_text()))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    # What a hypothesis state machine is run by has the machine's own name: `TestStory = Story.TestCase`.
    assigned = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign))
    names |= {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in names if name.startswith(("test_", "Test")))


@pytest.mark.parametrize("number", CASES)
def test_every_edge_case_says_what_is_to_come_of_it_and_names_tests_that_exist(number: str) -> None:
    case = CASES[number]

    assert number.isdigit()
    assert set(case) <= {"case", "tests", "open"}
    assert " => " in case["case"]
    assert case.get("tests") or case.get("open"), "no test proves it, and nothing says why"
    named = [test.split("::") for test in case.get("tests", [])]
    assert [test for path, test in named if test not in names_in(path)] == []
    assert len({tuple(test) for test in named}) == len(named)


def test_edge_cases_are_in_the_order_of_their_numbers() -> None:
    assert list(CASES) == sorted(CASES, key=int)
