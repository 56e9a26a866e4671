"""Secrets: where they come from, and a type that does not show them."""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay.errors import ConfigError

__all__ = [
    "NO_SECRET",
    "SECRET_LIMIT",
    "Secret",
    "find_reference",
    "is_reference",
    "problem_of_token",
    "read_secret",
    "read_text",
]

SECRET_LIMIT: Final = 16 * 1024
"""The most bytes a secret's file holds."""

_WHITE: Final = "\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001))))
"""What editors leave around a text: white space, and a byte order mark, which a shell then passes on."""

_SCHEME: Final = re.compile(r"(bearer|basic|token|key)\s", re.IGNORECASE)
_QUOTES: Final = frozenset({('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019")})


_WHOLE: Final = re.compile(r"\s*(?:env:[A-Za-z_][A-Za-z0-9_]*|file:(?!//)\S.*)\s*", re.DOTALL)
_WITHIN: Final = re.compile(r"(?<![A-Za-z0-9_.-])(?:env:[A-Z_][A-Z0-9_]*|(?<=[ :=])file:(?!//)[^\s\"',;]+)(?![A-Za-z])")
"""A reference as a part of a text is one by its looks: `env:` begins other things too."""


def find_reference(text: str) -> str | None:
    """The reference to a secret that *text* is or holds, as in `Bearer env:TOKEN`; None where there is none.

    Where no secret is accepted it would be sent as it stands, which is never meant. A `file://` address is none.
    """
    if _WHOLE.fullmatch(text):
        return text.strip()
    found = _WITHIN.search(text)
    return found[0] if found else None


class Secret:
    """A value for one reader: it is in no repr, no message and no comparison, only in what `reveal` returns."""

    __slots__ = ("_seen", "_value", "file", "source")

    def __init__(self, value: str, file: Path | None = None, *, source: str = "the program") -> None:
        """A secret that is *value*; one that comes from *file* is read again whenever that file has changed.

        *source* is where it comes from, as messages say it.
        """
        self.source: str = source
        self._value = value
        self.file: Path | None = file
        self._seen = _version(file)

    def reveal(self) -> str:
        """The value itself, as it is now. Hand it straight to whom it is for.

        While its file is away, empty or no text, as may be in the middle of a rotation, the value is as it was.
        """
        if self.file is not None and (seen := _version(self.file)) != self._seen:
            try:
                self._value = _from_file(self.file) or self._value
            except ConfigError:
                return self._value
            self._seen = seen
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"


def read_secret(reference: str, environ: Mapping[str, str], folder: Path) -> Secret:
    """The secret of one line that *reference* names: `env:NAME`, or `file:PATH`, where PATH is relative to *folder*.

    A byte order mark in front, white space on either side and NUL behind it are no part of it.

    Raises ConfigError, which says where the secret comes from and at which place of it something is wrong, and nothing
    else of it. It never repeats *reference* unless it is one of the two: it may be the secret itself.
    """
    secret = read_text(reference, environ, folder)
    if (problem := _problem(secret.reveal())) is not None:
        raise ConfigError(f"comes from {secret.source}, which {problem}")
    return secret


def read_text(reference: str, environ: Mapping[str, str], folder: Path) -> Secret:
    """As `read_secret`, for text of any shape, such as a key of several lines."""
    source, _, name = reference.partition(":")
    file = None
    if source == "env" and name:
        came, value = f"the environment variable {name}", _from_environment(name, environ)
    elif source == "file" and name:
        file = folder / name
        came, value = f"the file {file}", _from_file(file)
    else:
        raise ConfigError('is a secret; keep it out of the file, and write "env:NAME" or "file:PATH" here')
    if not value:
        raise ConfigError(f"comes from {reference}, which is empty")
    return Secret(value, file, source=came)


def is_reference(value: object) -> bool:
    """Whether *value* is written as a reference to a secret."""
    return isinstance(value, str) and value.startswith(("env:", "file:"))


def problem_of_token(token: str) -> str | None:
    """Why *token* cannot be sent behind a word such as Bearer, and at which character; None where it can."""
    if match := _SCHEME.match(token):
        return f"begins with the word {match[1]!r}; write the token alone, as the relay puts that word in front"
    for place, character in enumerate(token, 1):
        if character == " ":
            return f"has a space at character {place}; a token has none"
        if not character.isascii() or not character.isprintable():
            return f"has a character that is not printing ASCII at character {place}; a token has none"
    return None


def _problem(secret: str) -> str | None:
    if (lines := secret.splitlines()) and len(lines) > 1:
        second = next(number for number, line in enumerate(lines[1:], 2) if line)
        return f"goes on in line {second}; a secret is one line"
    for place, character in enumerate(secret, 1):
        if not character.isprintable():
            return f"has U+{ord(character):04X} at character {place}; a secret is text that prints"
    if len(secret) > 1 and (secret[0], secret[-1]) in _QUOTES:
        return "has quotes around it, at its first and last character; write it without them"
    return None


def _version(file: Path | None) -> object:
    """A value that differs once the file has been written or replaced; None while there is no file."""
    try:
        found = file.stat() if file is not None else None
    except (OSError, ValueError):
        return None
    return found and (found.st_mtime_ns, found.st_size, found.st_ino)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    try:
        return _stripped(environ[name])
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
        return _stripped(_decoded(content))
    except ConfigError as error:
        raise ConfigError(f"comes from the file {path}, which {error}") from None


def _stripped(text: str) -> str:
    return text.lstrip(_WHITE).rstrip(f"{_WHITE}\0")  # programs in C end a text with NUL


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError("is UTF-16 text, by its first two bytes; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, begun = content.count(b"\n", 0, error.start) + 1, content.rfind(b"\n", 0, error.start) + 1
        place = len(content[begun : error.start].decode("utf-8", "replace")) + 1
        raise ConfigError(f"is not UTF-8 text at line {line}, character {place}; save it as UTF-8") from None


NO_SECRET: Final = Secret("")
"""Stands where there may be a secret and is none: `read_secret` returns no empty one."""
