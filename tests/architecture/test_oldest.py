"""What `make oldest` tests with is what pyproject.toml allows at the least."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_oldest_aiohttp_that_is_tested_is_the_oldest_that_is_allowed() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (allowed,) = (wanted.partition(">=")[2] for wanted in dependencies if wanted.startswith("aiohttp"))

    asked, pinned = [(ROOT / "requirements" / f"oldest.{end}").read_text().splitlines() for end in ("in", "txt")]
    assert [line for line in asked if not line.startswith("#")] == [f"aiohttp=={allowed}"]
    assert [line for line in pinned if not line.startswith(("#", " "))] == [f"aiohttp=={allowed} \\"]
