"""`--compare`: whether the code of now became slower than the last release, which runs beside it.

Both run on this machine, in turns: figures that another machine recorded would say as much about the machines as about
the code. A figure that looks worse is measured again, in new processes and for longer, and only one that is worse each
time fails the comparison.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from tests.bench.against.release import NoReleaseError, last_release, released, unpacked
from tests.bench.against.slices import Say, beside
from tests.bench.against.verdict import WORSE, Beside, missing, table, worse
from tests.bench.fanout.servers import missing as missing_server
from tests.bench.fanout.tools import ROOT

__all__ = ["SLICES", "against_release", "judged"]

SLICES: Final[Sequence[int]] = (10, 20)
"""How many slices each measurement has: the first, and the one that must confirm it."""

Measure: TypeAlias = Callable[[int], Sequence[Beside]]
"""Measures in so many slices."""


def against_release(revision: str, say: Say, slices: Sequence[int] = SLICES) -> tuple[str, int]:
    """The comparison with *revision*, or with the last release where it is empty: a text, and a status.

    The status is 1 if a figure is worse, and 0 if none is, also where there is no release to compare with: then the
    text says so. Raises NoReleaseError if the history does not have *revision*.
    """
    if (lacking := missing_server("c-limit")) is not None:
        return f"Nothing was compared: it needs {lacking}.\n", 0
    try:
        name, commit = (revision, revision) if revision else _last()
    except NoReleaseError as error:
        return f"Nothing was compared: {error}.\n", 0
    with unpacked(commit) as place:
        text, status = judged(lambda count: beside(place, count, say), name, say, slices)
    return f"## Compared with {name}\n\n{text}", status


def _last() -> tuple[str, str]:
    number = last_release((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    return number, released(number)


def judged(measure: Measure, name: str, say: Say, slices: Sequence[int] = SLICES) -> tuple[str, int]:
    """The findings of *measure*, measured again while figures are worse: a text, and 1 if some are worse each time."""
    first, *again = slices
    figures = list(measure(first))
    lines = [table(figures, name), ""]
    suspects = worse(figures)
    for count in again:
        if not suspects:
            break
        say(f"compare: measured again: {'; '.join(suspects)}")
        repeated = [figure for figure in measure(count) if figure.name in suspects]
        lines += [f"Measured again, {count} slices:", "", table(repeated, name), ""]
        suspects = worse(repeated)
    if lacking := missing(figures):
        lines.append(f"Not compared: {'; '.join(lacking)}.\n")
    found = "; ".join(suspects) or "nothing"
    lines.append(f"Costs more than {WORSE} times as much as in {name}: {found}.\n")
    return "\n".join(lines), 1 if suspects else 0
