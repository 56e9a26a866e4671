"""What `relay tail` and `relay follow` present. It is named on the command line and never written there."""

import os
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import click

from relay import ConfigError
from relay.secret import Secret, is_reference, problem_of_token, read_secret

__all__ = ["Credentials", "Presented", "credentials_of", "token_of"]

Credentials: TypeAlias = Callable[[], Mapping[str, str]]
"""The headers to present now: a secret whose file has been replaced is read again."""


class Presented:
    """The *credentials* of one client, and whether they are others by now than those that it presented last."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._last: Mapping[str, str] = {}

    def headers(self) -> Mapping[str, str]:
        """The headers to present now."""
        self._last = dict(self._credentials())
        return self._last

    @property
    def changed(self) -> bool:
        """Whether something else would be presented now."""
        return dict(self._credentials()) != self._last


_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN: Final = frozenset(
    {"accept", "connection", "content-length", "host", "last-event-id", "transfer-encoding", "upgrade", "user-agent"}
)


def credentials_of(token: str | None, basic: str | None, headers: Sequence[str]) -> Credentials:
    """What --token, --basic and --header name. Raises click.UsageError, which never repeats a secret."""
    parts: list[Callable[[], tuple[str, str]]] = []
    if token is not None:
        parts.append(_bearer(token_of("--token", token)))
    if basic is not None:
        parts.append(_basic(_secret("--basic", basic)))
    for header in headers:
        name, _, reference = header.partition("=")
        if not _NAME.fullmatch(name):
            raise click.UsageError('--header is a name and where its value comes from, as in "X-Api-Key=env:NAME"')
        if name.lower() in _OWN:
            raise click.UsageError(f"--header {name} is set by relay tail itself; it takes no other value")
        parts.append(_plain(name, _secret(f"--header {name}", reference)))
    names = [part()[0].lower() for part in parts]
    if len(set(names)) < len(names):
        raise click.UsageError("one header has one value; give one of --token, --basic and --header Authorization")
    return lambda: dict(part() for part in parts)


def token_of(option: str, reference: str) -> Secret:
    """The token that *option* refers to. Raises click.UsageError, which never repeats it."""
    secret = _secret(option, reference)
    _check(option, secret, problem_of_token(secret.reveal()))
    return secret


def _bearer(secret: Secret) -> Callable[[], tuple[str, str]]:
    return lambda: ("Authorization", f"Bearer {secret.reveal()}")


def _basic(secret: Secret) -> Callable[[], tuple[str, str]]:
    _check("--basic", secret, None if ":" in secret.reveal() else "has no colon; it is written user:password")
    # [spec] RFC 7617, section 2
    return lambda: ("Authorization", f"Basic {b64encode(secret.reveal().encode()).decode()}")


def _plain(name: str, secret: Secret) -> Callable[[], tuple[str, str]]:
    problem = None if secret.reveal().isascii() else "has characters that are not ASCII; a header has none"
    _check(f"--header {name}", secret, problem)
    return lambda: (name, secret.reveal())


def _secret(option: str, reference: str) -> Secret:
    if not is_reference(reference):
        raise click.UsageError(
            f"{option} is a secret; keep it out of the command line, and write env:NAME or file:PATH in its place"
        )
    try:
        return read_secret(reference, os.environ, Path())
    except ConfigError as error:
        raise click.UsageError(f"{option} {error}") from None


def _check(option: str, secret: Secret, problem: str | None) -> None:
    if problem is not None:
        raise click.UsageError(f"{option} comes from {secret.source}, which {problem}")
