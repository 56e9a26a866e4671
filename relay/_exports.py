"""Names that are imported when they are first used: the exports of a package (PEP 562), and the kinds of a table."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

__all__ = ["KindSettings", "class_named", "lazy_exports"]

_S = TypeVar("_S")


def lazy_exports(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of *package*; *homes* are the modules and the names that each exports.

    Type checkers see none of it: the package imports the same names again under `TYPE_CHECKING`, each `as` itself,
    and `tests/architecture/test_exports.py` holds the two lists to each other.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    public = sorted(home_of)

    def getattribute(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    def directory() -> list[str]:
        return public

    return public, getattribute, directory


def class_named(target: str) -> Any:
    """The class that *target* names, as `module:Class`."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


class KindSettings(Mapping[str, type[_S]], Generic[_S]):
    """The `settings` of the class of each kind; *classes* names it as `module:Class`.

    To list the kinds imports none of them, and to read the settings of one imports that one.
    """

    def __init__(self, classes: Mapping[str, str]) -> None:
        self._classes = classes

    def __getitem__(self, kind: str) -> type[_S]:
        found: type[_S] = class_named(self._classes[kind]).settings
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes
