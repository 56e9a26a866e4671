"""Whether the code of now is slower than that of the release beside which it ran, and by how much."""

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from tests.bench.report import number

__all__ = ["WORSE", "Beside", "missing", "table", "worse"]

WORSE: Final = 1.15
"""As many times the cost of the release is too much."""


class Beside(Struct, frozen=True, kw_only=True):
    """One figure of both, and of the loop in C where it has such a thing: samples that took turns in one run.

    Only a *judged* figure can fail the comparison.
    """

    name: str
    unit: str
    now: Sequence[float]
    release: Sequence[float]
    limit: Sequence[float] = ()
    judged: bool = True

    @property
    def change(self) -> float | None:
        """The cost of now over that of the release; None if either was not measured.

        Both the least and the median of the samples must have grown: whatever else the machine does moves one of them
        at times, and slower code moves both.
        """
        if not self.now or not self.release:
            return None
        return min(min(self.now) / min(self.release), median(self.now) / median(self.release))

    @property
    def worse(self) -> bool:
        return self.judged and self.change is not None and self.change > WORSE


def worse(figures: Sequence[Beside]) -> list[str]:
    """The names of the figures that cost more than WORSE times that of the release."""
    return [figure.name for figure in figures if figure.worse]


def missing(figures: Sequence[Beside]) -> list[str]:
    """The figures that could not be compared, each with the side that lacks it."""
    sides = [
        (figure.name, [side for side, samples in (("now", figure.now), ("the release", figure.release)) if not samples])
        for figure in figures
    ]
    return [f"{name} ({' and '.join(lacking)})" for name, lacking in sides if lacking]


def table(figures: Sequence[Beside], release: str) -> str:
    """Each figure as a multiple of that of the loop in C, of now and of *release*, and how the two compare."""
    lines = [
        f"| figure | {release} | now | {release} / C | now / C | now / {release} | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for figure in figures:
        change = "" if figure.change is None else f"{figure.change:.2f}"
        word = "not compared" if figure.change is None else "worse" if figure.worse else ""
        word = word if figure.judged else "not judged"
        cells = [_least(figure.release, figure.unit), _least(figure.now, figure.unit)]
        cells += [_times(figure.release, figure.limit), _times(figure.now, figure.limit), change, word]
        lines.append(f"| {figure.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _least(samples: Sequence[float], unit: str) -> str:
    return f"{number(min(samples))} {unit}" if samples else ""


def _times(samples: Sequence[float], limit: Sequence[float]) -> str:
    return f"{min(samples) / min(limit):.2f}" if samples and limit else ""
