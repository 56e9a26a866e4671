"""The comparison with a release: when it fails, and that it runs the code of both."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench.against import slices
from tests.bench.against.compare import judged
from tests.bench.against.release import NoReleaseError, last_release, released, unpacked
from tests.bench.against.verdict import Beside, missing, table, worse
from tests.bench.fanout.servers import missing as missing_server
from tests.bench.fanout.tools import ROOT


def figure(name: str, *now: float, release: Sequence[float] = (10.0, 12.0, 11.0)) -> Beside:
    return Beside(name=name, unit="us", now=now, release=release, limit=(5.0, 6.0))


STEADY = figure("steady", 11.0, 12.0, 10.0)


def times(factor: float, name: str = "a delivery") -> Beside:
    return figure(name, 10.0 * factor, 12.0 * factor, 11.0 * factor)


def replies(*measured: Sequence[Beside]) -> tuple[Callable[[int], Sequence[Beside]], list[int]]:
    """A measurement with these figures, one time after another; and how many slices it was given each time."""
    left: Iterator[Sequence[Beside]] = iter(measured)
    counts: list[int] = []

    def measure(count: int) -> Sequence[Beside]:
        counts.append(count)
        return next(left)

    return measure, counts


def test_sixteen_percent_more_each_time_fails() -> None:
    measure, counts = replies(*[[STEADY, times(1.16)]] * 3)

    text, status = judged(measure, "1.2.3", print, (5, 10, 20))

    assert (status, counts) == (1, [5, 10, 20])
    assert "Costs more than 1.15 times as much as in 1.2.3: a delivery." in text


def test_fourteen_percent_more_passes_and_is_not_measured_again() -> None:
    measure, counts = replies([STEADY, times(1.14)])

    text, status = judged(measure, "1.2.3", print, (5, 10, 20))

    assert (status, counts) == (0, [5])
    assert "Costs more than 1.15 times as much as in 1.2.3: nothing." in text


def test_what_is_not_worse_again_passes_and_another_figure_is_no_confirmation() -> None:
    said: list[str] = []
    measure, counts = replies([STEADY, times(1.3)], [times(1.3, "steady"), times(1.0)])

    text, status = judged(measure, "1.2.3", said.append, (5, 10, 20))

    assert (status, counts) == (0, [5, 10])
    assert said == ["compare: measured again: a delivery"]
    assert "Measured again, 10 slices:" in text


@pytest.mark.parametrize(
    "now",
    [
        pytest.param((20.0, 20.0, 10.0), id="the least is as it was"),
        pytest.param((14.0, 11.0, 11.0), id="the median is as it was"),
    ],
)
def test_only_what_is_worse_in_the_least_and_in_the_middle_is_worse(now: Sequence[float]) -> None:
    assert worse([figure("a delivery", *now)]) == []


def test_a_figure_that_is_not_judged_is_shown_and_fails_nothing() -> None:
    noisy = Beside(name="memory", unit="KB", now=(2.0,), release=(1.0,), judged=False)

    text, status = judged(replies([STEADY, noisy])[0], "1.2.3", print)

    assert status == 0
    assert "| memory | 1 KB | 2 KB |  |  | 2.00 | not judged |" in text


def test_what_was_not_measured_is_named_with_its_side_and_is_neither_worse_nor_better() -> None:
    ours = figure("a delivery")
    theirs = figure("memory", 10.0, release=())

    text, status = judged(replies([STEADY, ours, theirs])[0], "1.2.3", print)

    assert status == 0
    assert missing([STEADY, ours, theirs]) == ["a delivery (now)", "memory (the release)"]
    assert "Not compared: a delivery (now); memory (the release)." in text
    assert "| memory |  | 10 us |  | 2.00 |  | not compared |" in text


def test_a_table_shows_both_as_multiples_of_the_loop_in_c() -> None:
    assert table([times(1.3)], "1.2.3") == (
        "| figure | 1.2.3 | now | 1.2.3 / C | now / C | now / 1.2.3 | |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| a delivery | 10 us | 13 us | 2.00 | 2.60 | 1.30 | worse |"
    )


def test_the_last_release_is_the_newest_that_has_a_date() -> None:
    assert (
        last_release("# Changelog\n\n## [Unreleased]\n\n## [1.10.0] - 2026-02-01\n\n## [1.9.3] - 2026-01-01\n")
        == "1.10.0"
    )
    with pytest.raises(NoReleaseError, match="dates no release"):
        last_release("# Changelog\n\n## [Unreleased]\n")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A repository whose second commit dates 1.0.0, and whose third changes the same section."""
    root = tmp_path / "history"
    root.mkdir()
    git(root, "init", "--quiet")
    for number, text in enumerate(
        ["## [Unreleased]\n", "## [Unreleased]\n\n## [1.0.0] - 2026-01-01\n", "## [1.0.0] - 2026-01-01\n\nMore.\n"]
    ):
        (root / "CHANGELOG.md").write_text(text)
        (root / "code").write_text(str(number))
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", f"Commit {number}")
    return root


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", root, *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_of_a_release_is_the_one_that_dated_it(history: Path) -> None:
    commit = released("1.0.0", history)

    assert git(history, "show", "--no-patch", "--format=%s", commit) == "Commit 1"
    with unpacked(commit, history) as place:
        assert (place / "code").read_text() == "1"
    assert not place.exists()


def test_a_tag_names_the_commit_of_a_release(history: Path) -> None:
    git(history, "tag", "--annotate", "--message", "1.0.0", "v1.0.0", "HEAD")

    assert released("1.0.0", history) == git(history, "rev-parse", "HEAD")


def test_a_history_without_the_release_says_so(history: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", history.as_uri(), str(shallow))

    with pytest.raises(NoReleaseError, match="git fetch --unshallow"):
        released("1.0.0", shallow)
    with pytest.raises(NoReleaseError, match="no commit of this history dated"):
        released("9.9.9", history)
    with pytest.raises(NoReleaseError, match="no revision"), unpacked("nothing-like-that", history):
        pass


@pytest.mark.skipif(
    missing_server("relay") is not None, reason=f"nothing is measured: it needs {missing_server('relay')}"
)
def test_both_checkouts_are_measured_beside_the_loop_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"JOBS": 4, "READERS": 5, "EVENTS": 2, "OPENED": 3}.items():
        monkeypatch.setattr(slices, name, size)
    said: list[str] = []

    figures = slices.beside(ROOT, 2, said.append)

    assert said == []
    assert [figure.name for figure in figures] == list(slices.FIGURES)
    assert missing(figures) == []
    assert [(len(figure.now), len(figure.limit)) for figure in figures] == [(2, 2), (1, 0), (2, 2), (2, 2)]
