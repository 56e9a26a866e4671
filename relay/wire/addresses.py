"""Addresses of servers, which are secrets: read and checked here, and shown without user, password and options."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from relay.errors import ConfigError

__all__ = ["Address", "read_address", "secret_parts"]

_PARTS: Final = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
"""Scheme, authority, path, query and fragment (RFC 3986, appendix B).

`urlsplit` of the newest Pythons refuses an IPv6 address behind another host.
"""

_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")


class Address(Struct, frozen=True, repr_omit_defaults=True):
    """A URL in its parts. *hosts* are host and port; without any, *path* is that of a socket of this machine.

    It holds a password: its repr, and what an f-string shows of it, do not.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    user: str
    password: str
    options: Mapping[str, str]
    url: str
    secrets: frozenset[str]

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts) or self.path or "this machine"

    def __repr__(self) -> str:
        return f"Address({self})"

    def masked(self, words: object) -> str:
        """*words* of a client or a server with the secrets of the URL masked; they may be long, and not only print."""
        text = str(words)
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def read_address(
    url: str, schemes: Mapping[str, int | None], *, options: Collection[str] = (), token: bool = False
) -> Address:
    """*url* in its parts; *schemes* are those that it may have, each with its default port, None for a socket's path.

    *options* are the keys that its query may have. With *token*, a user without a password is one, and as secret.
    Several hosts are separated by commas.

    Raises ConfigError, which says what is wrong and repeats no part of *url*.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigError("url has white space in it; write it as %20, or leave it out")
    match = _PARTS.fullmatch(url)
    scheme, authority, path, query, fragment = match.groups(default="") if match is not None else ("",) * 5
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=32)
    except ValueError:
        raise ConfigError(f"url is no address; it should look like {_example(schemes)}") from None
    userinfo, _, names = authority.rpartition("@")
    if names.count("[") != names.count("]"):
        raise ConfigError(f"url is no address; it should look like {_example(schemes)}")
    if (scheme := scheme.lower()) not in schemes:
        raise ConfigError(f"url begins with none of {', '.join(f'{scheme}://' for scheme in schemes)}")
    if fragment:
        raise ConfigError("url has a '#' in it; write it as %23 where it belongs to the password")
    if any(key not in options for key, _ in pairs):
        known = f"only {', '.join(sorted(options))}" if options else "none"
        raise ConfigError(f"url has an option behind '?' that is not known; {known} may be there")
    user, _, password = userinfo.partition(":")
    port = schemes[scheme]
    return Address(
        scheme=scheme,
        hosts=tuple(_hosts(names.split(",") if names else [], port)) if port is not None else (),
        path=unquote(path),
        user=unquote(user),
        password=unquote(password),
        options=dict(pairs),
        url=url,
        secrets=secret_parts(url, token=token),
    )


def secret_parts(url: str, *, token: bool = False) -> frozenset[str]:
    """The parts of *url* that are secret, as written and decoded: passwords, also those behind '?'.

    With *token*, a user without a password is one as well, and *url* may be a list. Where a password has a character
    that ends it, the whole URL is secret.
    """
    parts: set[str] = set()
    for one in url.split(",") if token else [url]:
        place, _, behind = one.partition("://")[2].partition("/")
        userinfo = place.rpartition("@")[0]
        user, colon, password = userinfo.partition(":")
        parts.add(password if colon else (user if token else ""))
        path, _, query = behind.partition("?")
        for key, _, value in (option.partition("=") for option in query.split("&")):
            parts.add(value if key.endswith("password") else "")
        parts.add(url if "@" in path else "")
    return frozenset(filter(None, parts | {unquote(part) for part in parts}))


def _hosts(names: Iterable[str], default: int) -> Iterable[tuple[str, int]]:
    for name in names:
        match = _HOST.fullmatch(name)
        if match is None or (match[1] is not None and not 0 < int(match[1]) < 65536):
            raise ConfigError(
                "url has a host or port that cannot be one; characters such as '/', '@' and '#' in a password are"
                " written as %2F, %40 and %23"
            )
        host = name.rpartition(":")[0] if match[1] else name
        yield host.strip("[]"), int(match[1] or default)


def _example(schemes: Iterable[str]) -> str:
    return f"{next(iter(schemes))}://USER:PASSWORD@HOST"
