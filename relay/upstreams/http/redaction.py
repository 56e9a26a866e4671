"""Redacts secrets in texts that people will read: exchanges, error messages, reasons given by an upstream."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from relay.errors import UpstreamError
from relay.jobs.observations import Failure, Observation, Result
from relay.text import CUT
from relay.upstreams.http.spellings import Secrets, decoded

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

MASK: Final = "***"

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

# What makes a signed URL work: Azure (sig, se), AWS (X-Amz-*), Google (X-Goog-*), CloudFront (Policy, Key-Pair-Id),
# Runway (_jwt), and the usual names. Inside JSON the "&" may be spelled \u0026, inside another URL %26, inside HTML
# &amp;.
_QUERY: Final = re.compile(
    r"(?:[?&;#]|\\u0026|%26|%3F)"
    r"(?:sig|se|signature|token|access_token|auth|api_?key|key|secret|hmac|policy|expires|key-pair-id"
    r"|_?jwt|x-amz-[a-z-]+|x-goog-[a-z-]+)(?:=|%3D)"
    r"(?P<value>(?:(?!\\u0026|%26)[^&\s\"'<>\\;#])+)",
    re.IGNORECASE,
)

# The end of a name that says that a secret follows, however names are written: client_secret, x-auth-token,
# accessToken. It is the last word that counts: `token_type` and `max_tokens` are none, nor is a `nextPageToken`.
_STRONG: Final = r"(?:passw(?:or)?d|passwort|passphrase|passcode|pwd|secret(?!ar))[\w-]{0,32}"
_NAME: Final = (
    r"(?:(?:api|access|account|auth|client|encryption|private|service|shared|signing|subscription|webhook)[_-]?key"
    r"|(?<!page)(?<!page_)(?<!page-)(?<!next)(?<!next_)(?<!next-)(?<!continuation)(?<!continuation_)token"
    r"|authorization|credentials?|cookies?|jwt|signature|session[_-]?id)[0-9]{0,2}"
)
_QUOTED_NAME: Final = re.compile(
    rf"(?:{_STRONG}|{_NAME})(?P<q>\\*[\"'])\s*(?:[:=,]|=>)\s*\[?\s*"
    r"(?:\"(?P<value>(?:[^\"\\]|\\.)+)|(?P<v>\\+\"|\\*')(?P<quoted>(?:(?!(?<!\\)(?P=v)).)+)|(?P<number>-?[0-9][0-9.eE+-]*))",
    re.IGNORECASE | re.DOTALL,
)
_BARE_NAME: Final = re.compile(
    rf"(?:(?P<strong>{_STRONG})|{_NAME})\s?(?P<by>[:=])[ \t]*"
    r"(?:(?P<v>\\*[\"'])(?P<quoted>(?:(?!(?<!\\)(?P=v))[^\r\n])+)|(?P<value>[^\s&\"'<>;,#\\(){}\[\]]+))",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"(?:authorization\s*:\s*(?:bearer|basic|digest|token|key|api-?key|aws4[\w-]*)\s|cookie\s*:\s*(?=[^\s=;:]+=))\s*"
    r"(?P<value>[^\r\n\"'\\]+)",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"\b(?:bearer|basic)\s+(?P<value>[a-z0-9._~+/=-]{8,})", re.IGNORECASE)
_USER: Final = re.compile(r"://(?P<value>[^/?#\s@\"'<>\\]{1,512})@")
_CALLBACK: Final = re.compile(r"cb_(?P<value>[A-Za-z0-9_-]{43})")
"""What proves that a call comes from an upstream (`relay.webhooks`)."""

_UNNAMED: Final = (_CALLBACK, _QUERY, _SCHEME, _USER)
_PATTERNS: Final = (*_UNNAMED, _QUOTED_NAME, _BARE_NAME, _HEADER)

_TELLTALES: Final = ("=", ":", '"', "%", "cb_", "earer", "EARER", "asic", "ASIC")
"""What every pattern above has in it, and most words that an upstream sends have not."""

_STEMS: Final = ("pass", "pwd", "secret", "key", "token", "auth", "credential", "cookie", "jwt", "signature", "session")
"""What every name of a secret has in it, in lower case."""

_RANDOM: Final = re.compile(r"[0-9]|[a-z][A-Z]|.{24}")
"""What makes a value look like a secret, and not like the next word of a sentence."""

_Span = tuple[int, int]


class Redactor:
    """Masks one upstream's secrets in any text, however they got there.

    The *secrets* themselves are found in every spelling that `relay.upstreams.http.spellings` knows, also in parts;
    values that sign a URL, and fields that are named like a secret, are masked whatever they hold.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._known = tuple(secret for secret in secrets if secret)
        self._secrets = Secrets(self._known) if self._known else None

    def __call__(self, text: str, limit: int | None = None) -> str:
        """*text* without secrets, of at most *limit* characters of the original.

        The text is cut between the two steps: a secret is looked for in the whole, so that no half of one is left at
        the cut, and the patterns only in what is kept.
        """
        text = self._hidden(text)
        if limit is not None:
            text = text[:limit]
        if not any(mark in text for mark in _TELLTALES):
            return text
        text = _covered(text, _named(text))
        if (resolved := decoded(text)) is not None:
            text = _covered(text, [resolved.span(*span) for span in _named(resolved.text)])
        return text

    def link(self, url: str) -> str:
        """*url*, which has to work, without secrets of ours and a user's name and password; what signs it stays.

        A secret of a few letters stays too: it may be a part of any address by chance.
        """
        return _USER.sub(f"://{MASK}@", self._hidden(url, short=False))

    def _hidden(self, text: str, *, short: bool = True) -> str:
        """*text* without the secrets themselves, those of a few letters only where *short* is set."""
        if self._secrets is None:
            return text
        if (resolved := decoded(text)) is not None:
            if not resolved.whole:
                return MASK
            spans = self._secrets.spans(resolved.text, short=short)
            text = _covered(text, [resolved.span(*span) for span in spans])
        return _covered(text, self._secrets.spans(text, short=short))

    def value(self, value: Any) -> Any:
        """A JSON *value* without secrets, in whichever of its texts and names."""
        match value:
            case str():
                return self(value)
            case list():
                return [self.value(item) for item in cast("Sequence[object]", value)]
            case dict():
                fields = cast("dict[str, Any]", value)
                return {self(name): self._field(name, item) for name, item in fields.items()}
            case _:
                return value

    def task(self, id: str) -> str:
        """*id*, which an upstream gave a task. Raises UpstreamError (malformed) where it repeats a secret."""
        if id in self._known or self._hidden(id, short=False) != id:
            raise UpstreamError("malformed", "the task may have been created, but its id repeats a secret of ours")
        return id

    def _field(self, name: str, item: Any) -> Any:
        return MASK if isinstance(item, str | int | float) and is_secret_name(name) else self.value(item)


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


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever it is."""
    return _SECRET_NAME.search(name) is not None


def secrets_among(headers: Mapping[str, str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names, in lower case, of those of an operator's *headers* that may be secret, and the values to look for."""
    secret = {name.lower(): value for name, value in headers.items() if not _OPEN_HEADERS.fullmatch(name)}
    return frozenset(secret), tuple(value for value in secret.values() if len(value) >= _SECRET_VALUE)


_SECRET_NAME: Final = re.compile(rf"(?:{_STRONG}|{_NAME})$", re.IGNORECASE)


def _failure(failure: Failure, redactor: Redactor) -> Failure:
    return replace(failure, message=redactor(failure.message))


def _result(result: Result, redactor: Redactor) -> Result:
    return replace(result, urls=tuple(map(redactor.link, result.urls)), value=redactor.value(result.value))


def _named(text: str) -> list[_Span]:
    """Where the values are that a name, or what stands before them, shows to be secrets."""
    lower = text.lower()
    patterns = _PATTERNS if any(stem in lower for stem in _STEMS) else _UNNAMED
    return [
        match.span(group)
        for pattern in patterns
        for match in pattern.finditer(text)
        if (group := next((key for key in ("value", "quoted", "number") if match.groupdict().get(key)), None))
        and _is_meant(pattern, match, group)
    ]


def _is_meant(pattern: re.Pattern[str], match: re.Match[str], group: str) -> bool:
    """Whether that is a value, and not the next word of a sentence, as in "invalid token: it has expired"."""
    if pattern is _SCHEME:
        return _RANDOM.search(match["value"]) is not None
    if pattern is _BARE_NAME and match["by"] == ":" and group == "value" and not match["strong"]:
        return _RANDOM.search(match["value"]) is not None
    return True


def _covered(text: str, spans: list[_Span]) -> str:
    """*text* with each of *spans* masked; what overlaps is masked once."""
    if not spans:
        return text
    pieces: list[str] = []
    done, cover = 0, -1
    for start, end in sorted(spans):
        if start > cover:
            pieces += (text[done:start], MASK)
        done = cover = max(cover, end)
    return "".join(pieces) + text[done:]
