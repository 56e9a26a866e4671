"""The code of the last release, from the history of this checkout, so that it can be run beside the code of now."""

import io
import re
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.fanout.tools import ROOT

__all__ = ["NoReleaseError", "last_release", "released", "unpacked"]

_DATED: Final = re.compile(r"^## \[(\d+(?:\.\d+)+)\] - ", re.MULTILINE)


class NoReleaseError(Exception):
    """This checkout has no code to compare with; the text says why, and how to get it."""


def last_release(changelog: str) -> str:
    """The number of the newest release that *changelog* has dated. Raises NoReleaseError if there is none."""
    if (found := _DATED.search(changelog)) is None:
        raise NoReleaseError("CHANGELOG.md dates no release")
    return found[1]


def released(number: str, root: Path = ROOT) -> str:
    """The commit of the release: the one that its tag names, else the one that dated it in CHANGELOG.md.

    Raises NoReleaseError where the history does not go back so far.
    """
    if tagged := _git(root, "rev-parse", "--quiet", "--verify", f"v{number}^{{commit}}"):
        return tagged
    if _git(root, "rev-parse", "--is-shallow-repository") != "false":
        raise NoReleaseError(
            f"the history was cut off here, and the commit of {number} may be missing: `git fetch --unshallow` gets it"
        )
    dating = _git(root, "log", "--format=%H", f"-S## [{number}] - ", "--", "CHANGELOG.md").split()
    if not dating:
        raise NoReleaseError(f"no commit of this history dated {number} in CHANGELOG.md")
    return dating[-1]


@contextmanager
def unpacked(revision: str, root: Path = ROOT) -> Generator[Path]:
    """The files of *revision*, in a directory of their own. Raises NoReleaseError if there is no such revision."""
    packed = subprocess.run(["git", "-C", root, "archive", revision], capture_output=True, check=False)
    if packed.returncode != 0:
        raise NoReleaseError(f"{revision} is no revision of this history, and no file")
    with TemporaryDirectory(prefix="relay-bench-release-") as place:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(place, filter="data")
        yield Path(place)


def _git(root: Path, *arguments: str) -> str:
    """The answer of git; nothing if it cannot."""
    try:
        ran = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
