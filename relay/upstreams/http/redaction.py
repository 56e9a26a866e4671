"""Redacts secrets in answers of an upstream, and in the headers of a request."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from relay.errors import UpstreamError
from relay.jobs.observations import Failure, Observation, Result
from relay.text import CUT
from relay.wire.redactor import MASK, Redactor, is_secret_name

__all__ = [
    "MASK",
    "Redactor",
    "carries_a_secret",
    "is_secret_header",
    "redact",
    "redact_answer",
    "redacted_headers",
    "secrets_among",
]

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "openai-sentinel-token"}
)
_OPEN_HEADERS: Final = re.compile(
    r"accept(?:-.*)?|content-.*|user-agent|origin|referer|prefer|cache-control|pragma|host|connection|x-requested-with"
    r"|(?:.*-)?(?:version|beta|region|locale)",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = 6
"""The fewest characters of a header's value that are looked for elsewhere: a shorter one stands in any text."""


def redact(seen: Observation, redactor: Redactor) -> Observation:
    """*seen*, with no secret in what is quoted from the upstream as it was sent: an upstream may repeat a request."""
    word = seen.raw_status and redactor(seen.raw_status)
    figure = seen.raw_percent and redactor(seen.raw_percent)
    # The cut may have left the first half of a secret, which nothing would find.
    if figure and figure.endswith(CUT):
        figure = MASK
    warning = seen.warning and redactor(seen.warning)
    log = tuple(map(redactor, seen.log))
    failure = seen.failure and _failure(seen.failure, redactor)
    result = seen.result and _result(seen.result, redactor)
    cleared = (word, figure, warning, log, failure, result)
    if cleared == (seen.raw_status, seen.raw_percent, seen.warning, seen.log, seen.failure, seen.result):
        return seen
    return replace(seen, raw_status=word, raw_percent=figure, warning=warning, log=log, failure=failure, result=result)


def redact_answer(seen: Observation | UpstreamError, redactor: Redactor) -> Observation | UpstreamError:
    """*seen* without secrets, where it is an observation; an error is made without them."""
    return seen if isinstance(seen, UpstreamError) else redact(seen, redactor)


def redacted_headers(headers: Mapping[str, str], also: Collection[str] = ()) -> str:
    """Headers as lines of text, the values of those that carry secrets masked: of *also* too, names in lower case."""
    return "".join(
        f"{name}: {MASK if carries_a_secret(name) or name.lower() in also else value}\n"
        for name, value in headers.items()
    )


def is_secret_header(name: str) -> bool:
    """Whether a header of this name is the one that says who asks, or cookies."""
    return name.lower() in _SECRET_HEADERS


def carries_a_secret(name: str) -> bool:
    """Whether a header of this name carries a secret, whatever it holds."""
    return is_secret_header(name) or is_secret_name(name)


def secrets_among(headers: Mapping[str, str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names, in lower case, of those of an operator's *headers* that may be secret, and the values to look for."""
    secret = {name.lower(): value for name, value in headers.items() if not _OPEN_HEADERS.fullmatch(name)}
    return frozenset(secret), tuple(value for value in secret.values() if len(value) >= _SECRET_VALUE)


def _failure(failure: Failure, redactor: Redactor) -> Failure:
    return replace(failure, message=redactor(failure.message))


def _result(result: Result, redactor: Redactor) -> Result:
    return replace(result, urls=tuple(map(redactor.link, result.urls)), value=redactor.value(result.value))
