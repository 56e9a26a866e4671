"""Secrets: where they come from, and a type that does not show them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay.errors import ConfigError

__all__ = ["NO_SECRET", "SECRET_LIMIT", "Secret", "read_secret"]

SECRET_LIMIT: Final = 16 * 1024
"""The most bytes a secret's file holds."""


class Secret:
    """A value for one reader: it is in no repr, no message and no comparison, only in what `reveal` returns."""

    __slots__ = ("_file", "_seen", "_value")

    def __init__(self, value: str, file: Path | None = None) -> None:
        """A secret that is *value*; one that comes from *file* is read again whenever that file has changed."""
        self._value = value
        self._file = file
        self._seen = _version(file)

    def reveal(self) -> str:
        """The value itself, as it is now. Hand it straight to whom it is for.

        While its file is away, empty or no text, as may be in the middle of a rotation, the value is as it was.
        """
        if self._file is not None and (seen := _version(self._file)) != self._seen:
            try:
                self._value = _from_file(self._file) or self._value
            except ConfigError:
                return self._value
            self._seen = seen
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"


def read_secret(reference: str, environ: Mapping[str, str], folder: Path) -> Secret:
    """The secret that *reference* names: `env:NAME`, or `file:PATH`, where PATH is relative to *folder*.

    Raises ConfigError, which never repeats *reference* unless it is one of the two: it may be the secret itself.
    """
    source, _, name = reference.partition(":")
    file = None
    if source == "env" and name:
        value = _from_environment(name, environ)
    elif source == "file" and name:
        file = folder / name
        value = _from_file(file)
    else:
        raise ConfigError('is a secret: keep it out of the file, and write "env:NAME" or "file:PATH" here')
    if not value:
        raise ConfigError(f"comes from {reference}, which is empty")
    return Secret(value, file)


def _version(file: Path | None) -> object:
    """What is different once the file has been written or replaced; None while there is none."""
    try:
        found = file.stat() if file is not None else None
    except (OSError, ValueError):
        return None
    return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    try:
        return environ[name].strip()
    except KeyError:
        raise ConfigError(f"comes from the environment variable {name}, which is not set") from None


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"comes from the file {path}, which cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError("comes from a file whose name cannot be one") from None
    if len(content) > SECRET_LIMIT:
        raise ConfigError(f"comes from the file {path}, which is over the limit of {SECRET_LIMIT:,} bytes")
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(f"comes from the file {path}, which is not UTF-8 text") from None


NO_SECRET: Final = Secret("")
"""Stands where there may be a secret and is none: `read_secret` returns no empty one."""
