"""Checks that `sinks` and `web`, two names that others use as well, are the relay's own packages."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import relay
from relay import UsageError

__all__ = ["check_packages", "shared_packages"]

_OWN: Final = {"sinks": "ConsoleSink", "web": "create_app"}
"""Each package, and a name that its `__init__.py` has."""

_DISTRIBUTION: Final = "progress-relay"

_APART: Final = "install the relay into an environment of its own (uv tool install, or pipx)"


def check_packages() -> None:
    """Raise UsageError if Python would import another package than the relay's own as `sinks` or `web`.

    Nothing is imported. The message names the folder, and the distribution that installed it, if one did.
    """
    for package, name in _OWN.items():
        found = _folder(package)
        if found is None or not _is_own(found, name):
            raise UsageError(_problem(package, found))


def shared_packages() -> Iterator[str]:
    """Yield one sentence for each other distribution that has installed files into a package of the relay."""
    for package in _OWN:
        for other in _others(_home() / package):
            yield (
                f"the distribution {other} has a package {package!r} too, so the next update of either may replace the"
                f" files of the other; {_APART}"
            )


def _folder(package: str) -> Path | None:
    """Return the place that *package* would be imported from: a folder with an `__init__.py`, or a file."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin is not None:
        origin = Path(spec.origin)
        return origin.parent if origin.name == "__init__.py" else origin
    return Path(next(iter(spec.submodule_search_locations or ["?"])))


def _is_own(folder: Path, name: str) -> bool:
    if folder.parent != _home():
        return False
    try:
        return name in (folder / "__init__.py").read_text("utf-8")
    except (OSError, ValueError):
        return not _home().is_dir()  # imported from an archive


def _home() -> Path:
    return Path(str(relay.__file__)).parent.parent


def _problem(package: str, found: Path | None) -> str:
    if found is None:
        return f"the relay's own package {package!r} is not installed; install {_DISTRIBUTION} again"
    others = _others(found)
    if found.parent != _home() and others:
        return (
            f"the package {package!r} would be imported from {found}, which the distribution {', '.join(others)}"
            f" installed there, and not from the relay; {_APART}"
        )
    if found.parent != _home():
        return (
            f"the package {package!r} would be imported from {found}, which is not the relay's own; rename that"
            f" package, or remove {found.parent} from Python's path (PYTHONPATH, or the current directory with"
            " python -m)"
        )
    if others:
        return f"the distribution {', '.join(others)} has replaced the relay's own package {package!r}; {_APART}"
    return f"the package {package!r} in {found} is not the relay's own; {_APART}"


def _others(found: Path) -> list[str]:
    """Return the distributions besides the relay's own that have installed files at or below *found*."""
    from importlib.metadata import distributions  # slow, and seldom needed

    names = {
        distribution.name
        for distribution in distributions()
        if Path(str(distribution.locate_file(found.name))) == found
        and any(file.parts[0] == found.name for file in distribution.files or ())
    }
    return sorted(names - {_DISTRIBUTION})
