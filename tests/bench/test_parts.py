"""Each part of the benchmark still works: all that was sent came, and nothing is measured twice under one name."""

import multiprocessing
from collections.abc import Iterator

import pytest

from tests.bench.child import START
from tests.bench.fanout.servers import missing
from tests.bench.part import Plan
from tests.bench.parts import PARTS, part

QUICK = Plan(rounds=1, quick=True)
OTHERS = [name for name in PARTS if name != "fanout"]


@pytest.fixture
def nothing_is_measured() -> Iterator[None]:
    multiprocessing.set_forkserver_preload([part(name).__module__ for name in OTHERS])
    token = START.set("forkserver")
    yield
    START.reset(token)


@pytest.mark.usefixtures("nothing_is_measured")
@pytest.mark.skipif(missing("relay") is not None, reason=f"nothing is measured: it needs {missing('relay')}")
@pytest.mark.parametrize("name", OTHERS)
def test_a_part_finds_its_figures_and_no_fault(name: str) -> None:
    findings = part(name)(QUICK)

    names = [figure.name for figure in findings.figures]
    assert (len(names), list(findings.failed)) == (len(set(names)), [])
    faults = {figure.name: figure.value for figure in findings.figures if figure.goal == 0}
    assert faults == dict.fromkeys(faults, 0)
    assert faults
