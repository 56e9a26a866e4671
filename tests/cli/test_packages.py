"""A foreign package called `web` or `sinks` is one sentence that names the folder or the distribution it comes from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import relay

HOME = Path(relay.__file__).parent.parent
COMMANDS = [["serve", "--port", "0"], ["doctor"], ["schema"]]
APART = "install the relay into an environment of its own (uv tool install, or pipx)"
WAY_OUT = (
    "rename that package, or remove {place} from Python's path (PYTHONPATH, or the current directory with python -m)"
)


def run(folder: Path, *arguments: str, path: Path | None = None) -> tuple[int, str, str]:
    """`python -m relay`, which looks into *path* before anything that is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        cwd=folder,
        env={} if path is None else {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("taken", ["web/__init__.py", "sinks.py"])
def test_a_folder_or_file_that_python_finds_first_is_named(arguments: list[str], taken: str, tmp_path: Path) -> None:
    place, here = tmp_path / "shared", tmp_path / "here"
    (place / taken).parent.mkdir(parents=True)
    (place / taken).write_text("create_app = ConsoleSink = None\n")
    here.mkdir()
    found = place / taken.removesuffix("/__init__.py")
    assert run(here, *arguments, path=place) == (
        2,
        "",
        f"relay: the package {taken.partition('/')[0].removesuffix('.py')!r} would be imported from {found}, which is"
        f" not the relay's own; {WAY_OUT.format(place=place)}\n",
    )


def installed(site: Path, *, last: str) -> None:
    """The relay and a distribution `web.py`, which has a package `web` too, in one folder; *last* came last."""
    for package in ("relay", "sinks", "web"):
        shutil.copytree(HOME / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    if last == "web.py":
        (site / "web" / "__init__.py").write_text('__version__ = "0.62"\n')
    for name in ("progress-relay", "web.py"):
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("web/__init__.py,,\n")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_distribution_that_has_put_its_files_over_the_relays_own_is_named(
    arguments: list[str], tmp_path: Path
) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    installed(site, last="web.py")
    assert run(here, *arguments, path=site) == (
        2,
        "",
        f"relay: the distribution web.py has replaced the relay's own package 'web'; {APART}\n",
    )


def test_a_distribution_that_shares_a_folder_with_the_relay_is_amiss_to_the_doctor(tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    (here / "relay.toml").write_text('[server]\nport = 0\nmax_streams = 10\n[journal]\nurl = "memory:"\n')
    installed(site, last="progress-relay")
    status, out, err = run(here, "doctor", path=site)
    assert (status, err) == (1, "")
    assert out.splitlines()[-2:] == [
        "packages             problem: the distribution web.py has a package 'web' too, so the next update of either"
        f" may replace the files of the other; {APART}",
        "1 problem found",
    ]


def test_a_package_that_is_missing_is_said(tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    installed(site, last="progress-relay")
    shutil.rmtree(site / "sinks")
    (site / "sinks").mkdir()
    (site / "sinks" / "__init__.py").write_text("")
    status, out, err = run(here, "serve", path=site)
    assert (status, out) == (2, "")
    assert err == (f"relay: the package 'sinks' in {site / 'sinks'} is not the relay's own; {APART}\n")
