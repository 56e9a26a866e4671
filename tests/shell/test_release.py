"""A release has one version: that of pyproject.toml, which the tag and the changelog repeat."""

import runpy
import shutil
import subprocess
import sys
import tomllib
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from sphinx.util.tags import Tags

ROOT = Path(__file__).parents[2]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-28

### Added

- A sink.

### Fixed

- A leak.

## [1.1.0] - 2026-10-01

### Added

- The relay.

[1.2.0]: https://example.org/releases/v1.2.0
"""


def check(root: Path, changelog: str, *arguments: str, version: str = "1.2.0") -> tuple[int, str, str]:
    """The script on a project of this version and changelog."""
    (root / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "check_release.py", root / "scripts")
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (root / "CHANGELOG.md").write_text(changelog)
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [(), ("v1.2.0",)], ids=["without a tag", "with a tag"])
def test_a_release_whose_versions_agree_prints_its_notes(arguments: tuple[str, ...], tmp_path: Path) -> None:
    notes = "### Added\n\n- A sink.\n\n### Fixed\n\n- A leak.\n"
    assert check(tmp_path, CHANGELOG, *arguments) == (0, notes, "")


@pytest.mark.parametrize(
    ("changelog", "tag", "problem"),
    [
        (
            CHANGELOG,
            "v1.3.0",
            "the tag is v1.3.0, but pyproject.toml says version 1.2.0: tag it v1.2.0, or change the version",
        ),
        (
            CHANGELOG,
            "1.2.0",
            "the tag is 1.2.0, but pyproject.toml says version 1.2.0: tag it v1.2.0, or change the version",
        ),
        (
            CHANGELOG.replace("[Unreleased]", "[Unreleased]\n\n- More."),
            "v1.2.0",
            "CHANGELOG.md has lines below [Unreleased]: move them below [1.2.0]",
        ),
        (
            CHANGELOG.replace("## [1.2.0]", "## [1.3.0]"),
            "v1.2.0",
            "CHANGELOG.md has [1.3.0] as its newest release, but pyproject.toml says 1.2.0: make them agree",
        ),
        (
            "# Changelog\n",
            "v1.2.0",
            "CHANGELOG.md has nothing as its newest release, but pyproject.toml says 1.2.0: make them agree",
        ),
        (
            CHANGELOG.replace(" - 2026-11-28", ""),
            "v1.2.0",
            "[1.2.0] in CHANGELOG.md has no date: write ## [1.2.0] - YYYY-MM-DD",
        ),
        (
            CHANGELOG.replace("### Fixed", "### Bugs"),
            "v1.2.0",
            "[1.2.0] in CHANGELOG.md has the parts Added, Bugs: use Added, Changed, Fixed, Removed, in this order",
        ),
        ("## [1.2.0] - 2026-11-28\n", "v1.2.0", "[1.2.0] in CHANGELOG.md is empty: say what has changed"),
    ],
    ids=["another tag", "no v", "unreleased lines", "another release", "no release", "no date", "parts", "empty"],
)
def test_what_does_not_agree_is_one_sentence_that_says_what_to_do(
    changelog: str, tag: str, problem: str, tmp_path: Path
) -> None:
    assert check(tmp_path, changelog, tag) == (1, "", f"check_release: {problem}\n")


def test_the_wheel_has_the_version_of_pyproject_and_no_module_repeats_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        named = {
            name: archive.read(name).decode() for name in archive.namelist() if name.endswith((".py", "/METADATA"))
        }
    (metadata,) = (text for name, text in named.items() if name.endswith("/METADATA"))
    assert Parser().parsestr(metadata)["Version"] == VERSION
    assert [name for name, text in named.items() if name.endswith(".py") and f'"{VERSION}"' in text] == []


def test_the_documentation_has_the_version_that_is_installed() -> None:
    configuration = runpy.run_path(str(ROOT / "docs" / "conf.py"), init_globals={"tags": Tags()})
    assert configuration["release"] == version("progress-relay")


def test_the_changelog_has_no_release_that_is_newer_than_the_version() -> None:
    releases = [
        line.partition("[")[2].partition("]")[0]
        for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
        if line.startswith("## [") and not line.startswith("## [Unreleased]")
    ]
    numbers = [tuple(map(int, release.split("."))) for release in [VERSION, *releases]]
    assert numbers == sorted(numbers, reverse=True)
