"""A blinker signal that sends in the order of subscription."""

from collections.abc import Iterable, Iterator, MutableSet
from typing import Any

from blinker import Signal

__all__ = ["OrderedSignal"]


class _OrderedSet(MutableSet[Any]):
    """A set that keeps the order of insertion; the set of blinker has none."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)

    def copy(self) -> "_OrderedSet":
        return _OrderedSet(self._items)


class OrderedSignal(Signal):
    """A signal whose receivers are called in the order in which they were connected."""

    set_class = _OrderedSet  # type: ignore[assignment]
