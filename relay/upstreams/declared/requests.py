"""The requests of an API that was declared: checked when they are made, filled in when they are sent."""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from msgspec import Struct

from relay.errors import UsageError
from relay.hints import unknown
from relay.upstreams.declared.declaration import AnswerRequest, CancelRequest, SubmitRequest
from relay.upstreams.declared.templates import BodyTemplate, PathTemplate, QueryTemplate, Values, check_no_secret
from relay.upstreams.http.redaction import is_secret_header

__all__ = ["DeclaredRequest", "FilledRequest", "check_header_name", "checked_headers", "naming"]

_AnyRequest: TypeAlias = SubmitRequest | CancelRequest | AnswerRequest

_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What the name of a header is made of (RFC 9110, 5.6.2)."""


class FilledRequest(Struct, frozen=True, kw_only=True):
    """A request as it is to be sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class DeclaredRequest:
    """One request, which *name* calls it, with the placeholders *known* to it, and those that *page* a list.

    What pages a list is no part of its path.
    Raises UsageError, which names the key.
    """

    def __init__(self, name: str, request: _AnyRequest, known: Collection[str], *, page: Collection[str] = ()) -> None:
        self.method = request.method
        self.headers: Mapping[str, str] = checked_headers(f"{name}.headers", request.headers)
        with naming(f"{name}.path"):
            self._path = PathTemplate(request.path, known)
        with naming(f"{name}.query"):
            self._query = QueryTemplate(request.query, (*known, *page))
        with naming(f"{name}.body"):
            self._body = BodyTemplate(request.body, (*known, *page))
        self._places = (*self._path.places, *self._query.places, *self._body.places)

    def names(self, root: str) -> bool:
        """Whether a placeholder stands for *root*, or a part of it."""
        return any(place.root == root for place in self._places)

    def demands(self, root: str) -> bool:
        """Whether *root* must have a value: a placeholder stands for it that is not optional."""
        return any(place.root == root and not place.optional for place in self._places)

    def filled(self, values: Values) -> FilledRequest:
        """The request with *values* put in. Raises UsageError, or UpstreamError (not-found) for an impossible task."""
        return FilledRequest(
            method=self.method,
            path=self._path.filled(values) + self._query.filled(values),
            headers=self.headers,
            body=self._body.filled(values),
        )

    def check_input(self, input: Mapping[str, Any]) -> None:
        """Raise UsageError where a key of *input* would be sent nowhere: most likely it is mistyped."""
        used = {place.name.split(".")[1] for place in self._places if place.name.startswith("input.")}
        if any(place.name == "input" for place in self._places):
            return
        for key in input:
            if key not in used:
                hint = unknown(key, sorted(used)) if used else "known are none"
                raise UsageError(f"the input has an unknown key {key!r}; {hint}")


@contextmanager
def naming(key: str) -> Generator[None]:
    """Let a UsageError within begin with the *key* that it is about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{key} {error}") from None


def checked_headers(name: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """*headers* themselves. Raises UsageError for what is no header, and for one that holds a secret."""
    for header, value in headers.items():
        check_header_name(name, header)
        if is_secret_header(header):
            raise UsageError(f"{name} has {header!r}, which holds a secret; use token, auth_header and auth_scheme")
        with naming(f"{name}.{header}"):
            check_no_secret(value)
        if not value.isascii() or not value.isprintable():
            raise UsageError(f"{name}.{header} must be printable ASCII")
    return headers


def check_header_name(name: str, header: str) -> None:
    """Raise UsageError, which names the key *name*, for what is no name of a header."""
    if not header or not set(header) <= _TOKEN:
        raise UsageError(f"{name} has {header!r}, which is no name of a header")
