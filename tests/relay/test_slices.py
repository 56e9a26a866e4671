"""Slices of time: of work that is long, in its order, and each of them short."""

from collections.abc import Iterator

from relay.clock import slices


class Now:
    """A clock on which each item takes as long as the test says."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def cut(took: list[float], most: int = 100) -> list[list[float]]:
    """The slices of a second each, of items that take so many seconds."""
    now = Now()

    def work(part: Iterator[float]) -> Iterator[float]:
        for seconds in part:
            now.seconds += seconds
            yield seconds

    return [list(work(part)) for part in slices(took, most=most, seconds=1.0, now=now)]


def test_a_slice_ends_once_its_time_is_over() -> None:
    assert cut([0.5, 0.4, 0.1, 0.6, 0.6, 0.2]) == [[0.5, 0.4, 0.1], [0.6, 0.6], [0.2]]


def test_an_item_longer_than_a_slice_is_one_by_itself() -> None:
    assert cut([3.0, 2.0, 0.1]) == [[3.0], [2.0], [0.1]]


def test_a_slice_has_so_many_items_at_most() -> None:
    assert cut([0.0] * 5, most=2) == [[0.0, 0.0], [0.0, 0.0], [0.0]]


def test_there_is_no_slice_without_an_item() -> None:
    assert cut([]) == []
    assert cut([1.0, 1.0]) == [[1.0], [1.0]]
