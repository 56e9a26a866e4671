"""The rooms of the house and the arrows between them, as the code's own imports draw them.

`python -m tests.architecture.plan` prints the plan.

A place is a package, with everything in it, or a module of a hall. The halls are `relay`, `web`, `relay.upstreams` and
`relay.testing`: their modules are what the rooms beneath share, or what stands above those rooms, so each of them is a
place by itself. The `__init__` of a hall is its front door, and a place as well. `relay.cli`, `relay.journal` and
`sinks` are one room each, and `python -m relay` belongs to the first. A front door only hands names on, so an arrow
from it is none of the house's own, and it takes no part in the count of arrows; a circle through it is a circle all
the same.
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Set
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

__all__ = ["HALLS", "Plan", "describe", "draw", "imports", "modules", "storey"]

ROOT = Path(__file__).parents[2]
HALLS = ("relay", "web", "relay.upstreams", "relay.testing")
PACKAGES = ("relay", "sinks", "web")
_WHOLE = ("relay.cli", "relay.journal", "sinks")


class Plan(NamedTuple):
    """The modules of each place, and the imports that each arrow from one place to another stands for."""

    places: Mapping[str, frozenset[str]]
    arrows: Mapping[tuple[str, str], frozenset[str]]

    @property
    def rooms(self) -> list[str]:
        """The packages, halls included."""
        return sorted(place for place in self.places if (ROOT / place.replace(".", "/")).is_dir())

    @property
    def loose(self) -> list[str]:
        """The modules in the hall of `relay`. One that begins with an underscore belongs to the front door."""
        return sorted(
            place
            for place in self.places
            if place.startswith("relay.")
            and not place.startswith("relay._")
            and place not in self.rooms
            and place.count(".") == 1
        )

    def cycle(self) -> list[str]:
        """Places that import each other in a circle; an empty list where there is none."""
        try:
            self.floors()
        except CycleError as error:
            return list(error.args[1])
        return []

    def floors(self) -> list[list[str]]:
        """The places from the ground up: each stands above all that it imports. Raises CycleError."""
        sorter = TopologicalSorter({place: self.beneath(place) for place in self.places})
        sorter.prepare()
        found: list[list[str]] = []
        while ready := sorter.get_ready():
            found.append(sorted(ready))
            sorter.done(*ready)
        return found

    def beneath(self, place: str) -> Set[str]:
        """What *place* imports."""
        return {to for start, to in self.arrows if start == place}

    def storeys(self) -> set[tuple[str, str]]:
        """The arrows of the whole house: between modules of the hall of `relay`, and packages of the first level."""
        pairs = {(storey(start), storey(to)) for start, to in self.arrows if start not in HALLS}
        return {(start, to) for start, to in pairs if start != to}


def storey(place: str) -> str:
    """The module of the hall, or the package of the first level, that *place* is or is in."""
    return ".".join(place.split(".")[:2]) if place.startswith("relay.") else place.split(".")[0]


@cache
def draw() -> Plan:
    """The plan of the code as it stands."""
    known = modules()
    places: dict[str, set[str]] = {}
    arrows: dict[tuple[str, str], set[str]] = {}
    for module, path in known.items():
        start = _place(module, known)
        places.setdefault(start, set()).add(module)
        for name in imports(path):
            to = _place(_module(name, known), known)
            if to != start and name.split(".")[0] in PACKAGES:
                arrows.setdefault((start, to), set()).add(f"{module} -> {name}")
    return Plan(
        {place: frozenset(inside) for place, inside in places.items()},
        {arrow: frozenset(named) for arrow, named in arrows.items()},
    )


@cache
def modules() -> Mapping[str, Path]:
    """Every module of ours by its name; a package goes by its own."""
    found = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every name that a file imports, with its module, also inside functions and type-checking blocks."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _module(name: str, known: Mapping[str, Path]) -> str:
    """The module that *name* is, or is taken from."""
    return name if name in known else name.rpartition(".")[0]


def _place(module: str, known: Mapping[str, Path]) -> str:
    for whole in _WHOLE:
        if module == whole or module.startswith(f"{whole}."):
            return whole
    if module == "relay.__main__":
        return "relay.cli"
    package = module if module in known and known[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if package in HALLS else package


def describe(plan: Plan) -> str:
    """The plan in words, floor by floor from the ground, with what each place imports."""
    lines = [
        f"{number:2}  {place:28} {len(plan.places[place]):2} modules -> {', '.join(sorted(plan.beneath(place))) or '-'}"
        for number, floor in enumerate(plan.floors(), start=1)
        for place in floor
    ]
    first = {place for arrow in plan.storeys() for place in arrow}
    return "\n".join(
        [
            *lines,
            f"{len(plan.rooms)} rooms, {len(plan.loose)} modules in the hall of relay, {len(plan.floors())} floors",
            f"{len(plan.storeys())} arrows between {len(first)} places of the first level, {len(plan.arrows)} in all",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(describe(draw()) + "\n")
