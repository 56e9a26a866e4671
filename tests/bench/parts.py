"""The parts of the benchmark, by name, each imported when it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from tests.bench.part import Measure

__all__ = ["PARTS", "part"]

PARTS: Final[Mapping[str, str]] = {
    "fanout": "tests.bench.fanout.part",
    "polling": "tests.bench.polling.part",
    "journal": "tests.bench.journal",
    "replay": "tests.bench.replay",
    "stuck": "tests.bench.stuck",
    "stalls": "tests.bench.stalls",
    "cycles": "tests.bench.cycles",
    "traffic": "tests.bench.traffic",
    "chat": "tests.bench.chat",
    "isolation": "tests.bench.isolation",
    "console": "tests.bench.console",
    "webhook": "tests.bench.webhook",
    "access": "tests.bench.access",
    "tokens": "tests.bench.tokens",
    "cluster": "tests.bench.cluster",
    "workers": "tests.bench.workers",
    "startup": "tests.bench.startup",
}
"""The module of each, in the order in which they are run and shown."""


def part(name: str) -> Measure:
    """The function of the part of this name. Raises ModuleNotFoundError where this checkout has no such part."""
    measure: Measure = import_module(PARTS[name]).measure
    return measure
