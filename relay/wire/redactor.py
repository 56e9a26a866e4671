"""Masks secrets in any text that leaves the relay: a record, a notice, a line of an error, a traceback."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from relay.errors import UpstreamError
from relay.text import late_pattern
from relay.wire.spellings import Secrets, decoded

__all__ = ["MASK", "Redactor", "is_secret_name"]

MASK: Final = "***"

# What makes a signed URL work: Azure (sig, se), AWS (X-Amz-*), Google (X-Goog-*), CloudFront (Policy, Key-Pair-Id),
# Runway (_jwt), and the usual names. Inside JSON the "&" may be spelled \u0026, inside another URL %26, inside HTML
# &amp;.
_QUERY: Final = late_pattern(
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
_QUOTED_NAME: Final = late_pattern(
    rf"(?:{_STRONG}|{_NAME})(?P<q>\\*[\"'])\s*(?:[:=,]|=>)\s*\[?\s*"
    r"(?:\"(?P<value>(?:[^\"\\]|\\.)+)|(?P<v>\\+\"|\\*')(?P<quoted>(?:(?!(?<!\\)(?P=v)).)+)|(?P<number>-?[0-9][0-9.eE+-]*))",
    re.IGNORECASE | re.DOTALL,
)
_BARE_NAME: Final = late_pattern(
    rf"(?:(?P<strong>{_STRONG})|{_NAME})\s?(?P<by>[:=])[ \t]*"
    r"(?:(?P<v>\\*[\"'])(?P<quoted>(?:(?!(?<!\\)(?P=v))[^\r\n])+)|(?P<value>[^\s&\"'<>;,#\\(){}\[\]]+))",
    re.IGNORECASE,
)
_HEADER: Final = late_pattern(
    r"(?:authorization\s*:\s*(?:bearer|basic|digest|token|key|api-?key|aws4[\w-]*)\s|cookie\s*:\s*(?=[^\s=;:]+=))\s*"
    r"(?P<value>[^\r\n\"'\\]+)",
    re.IGNORECASE,
)
_SCHEME: Final = late_pattern(r"\b(?:bearer|basic)\s+(?P<value>[a-z0-9._~+/=-]{8,})", re.IGNORECASE)
_USER: Final = re.compile(r"://(?P<value>[^/?#\s@\"'<>\\]{1,512})@")
_CALLBACK: Final = re.compile(r"cb_(?P<value>[A-Za-z0-9_-]{43})")
"""What proves that a call comes from an upstream (`relay.webhooks`)."""

_TOKEN: Final = re.compile(
    r"rl(?:k_(?=[A-Za-z0-9_-]{8})|[stbc]_(?=[0-9a-f]{8}\.))(?P<value>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)"
)
"""What opens the relay itself, also where it is cut: an API key, and what is signed (`web.access.signing`)."""

_JWT: Final = re.compile(r"eyJ(?P<value>[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)")
"""[spec] RFC 7515, 7.1: a header, which is a JSON object in base64, the claims, and the signature."""

_UNNAMED: Final = (
    (_CALLBACK, ("cb_",)),
    (_TOKEN, ("rlk_", "rls_", "rlt_", "rlb_", "rlc_")),
    (_JWT, ("eyj",)),
    (_QUERY, ("=", "%3d")),
    (_SCHEME, ("bearer", "ba")),
    (_USER, ("://",)),
)
"""Each with what every text that it matches has one of, in folded case: to look for that takes 0.1 us, and to search
all six patterns 3 us. `re` also takes a dotless i for an i, so the mark for "basic" ends before it.
"""

_NAMED: Final = (_QUOTED_NAME, _BARE_NAME, _HEADER)

_TELLTALES: Final = (
    "=",
    ":",
    '"',
    "%",
    "cb_",
    *(f"rl{kind}_" for kind in "kstbc"),
    "eyJ",
    "earer",
    "EARER",
    "asic",
    "ASIC",
)
"""What every pattern above has in it, and most words that an upstream sends have not."""

_STEMS: Final = ("pass", "pwd", "secret", "key", "token", "auth", "credential", "cookie", "jwt", "signature", "session")
"""What every name of a secret has in it, in lower case."""

_RANDOM: Final = re.compile(r"[0-9]|[a-z][A-Z]|.{24}")
"""What makes a value look like a secret, and not like the next word of a sentence."""

_SHORT: Final = 32
"""The most characters of a text that is remembered as clean: an upstream's word for a state comes with each answer."""

_MOST_CLEAN: Final = 1_024

_Span = tuple[int, int]


class Redactor:
    """Masks secrets in any text, however they got there.

    The *secrets* themselves are found in every spelling that `relay.wire.spellings` knows, also in parts. Passwords in
    URLs, values that sign one, and fields that are named like a secret, are masked whatever they hold; and whatever one
    of *patterns*, regular expressions of the operator's own, matches: its first group, or all of it if it has none.
    """

    def __init__(self, secrets: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._known = tuple(secret for secret in secrets if secret)
        self._secrets = Secrets(self._known) if self._known else None
        self._clean: set[str] = set()
        self._patterns = tuple(map(re.compile, patterns))

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these *secrets* as well from now on; those so far stay."""
        self._clean.clear()
        self._known = (*self._known, *(secret for secret in secrets if secret and secret not in self._known))
        self._secrets = Secrets(self._known) if self._known else None

    def __call__(self, text: str, limit: int | None = None, *, short: bool = True) -> str:
        """*text* without secrets, of at most *limit* characters of the original.

        A secret of a few letters, which may be a part of any word by chance, is masked only where *short* is set. The
        text is cut between the two steps: a secret is looked for in the whole, so that no half of one is left at
        the cut, and the patterns only in what is kept.
        """
        if short or limit is not None or len(text) > _SHORT:
            return self._redacted(text, limit, short=short)
        if text in self._clean:
            return text
        redacted = self._redacted(text, None, short=False)
        if redacted == text:
            if len(self._clean) == _MOST_CLEAN:
                self._clean.clear()
            self._clean.add(text)
        return redacted

    def _redacted(self, text: str, limit: int | None, *, short: bool) -> str:
        text = self._hidden(text, short=short)
        if limit is not None:
            text = text[:limit]
        if not _has_one(text, _TELLTALES):
            return text
        text = _covered(text, _named(text))
        if (resolved := decoded(text)) is not None:
            text = _covered(text, [resolved.span(*span) for span in _named(resolved.text)])
        return text

    def link(self, url: str) -> str:
        """*url*, which has to work, without secrets and tokens of ours and a user's name and password.

        What signs it stays.

        A secret of a few letters stays too: it may be a part of any address by chance.
        """
        url = _covered(url, [match.span("value") for match in _TOKEN.finditer(url)])
        return _USER.sub(f"://{MASK}@", self._hidden(url, short=False))

    def _hidden(self, text: str, *, short: bool = True) -> str:
        """*text* without the secrets themselves, those of a few letters only where *short* is set."""
        if self._secrets is None and not self._patterns:
            return text
        if (resolved := decoded(text)) is not None:
            if not resolved.whole:
                return MASK
            text = _covered(text, [resolved.span(*span) for span in self._spans(resolved.text, short)])
        return _covered(text, self._spans(text, short))

    def _spans(self, text: str, short: bool) -> list[_Span]:
        known = self._secrets.spans(text, short=short) if self._secrets is not None else []
        for pattern in self._patterns:
            matches = pattern.finditer(text)
            known += [match.span(1 if pattern.groups and match[1] is not None else 0) for match in matches]
        return known

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
        if id in self._known or self._hidden(id, short=False) != id or self.has_token(id):
            raise UpstreamError("malformed", "the task may have been created, but its id repeats a secret of ours")
        return id

    def has_token(self, text: str) -> bool:
        """Whether *text* holds a token that opens the relay, of this relay or of another."""
        return _TOKEN.search(text) is not None

    def _field(self, name: str, item: Any) -> Any:
        return MASK if isinstance(item, str | int | float) and is_secret_name(name) else self.value(item)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever it is."""
    return _SECRET_NAME.search(name) is not None


_SECRET_NAME: Final = late_pattern(rf"(?:{_STRONG}|{_NAME})$", re.IGNORECASE)


def _named(text: str) -> list[_Span]:
    """Where the values are that a name, or what stands before them, shows to be secrets."""
    folded = text.casefold()
    patterns = [pattern for pattern, marks in _UNNAMED if _has_one(folded, marks)]
    if _has_one(folded, _STEMS):
        patterns += _NAMED
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


def _has_one(text: str, marks: Iterable[str]) -> bool:
    """Whether one of *marks* is in *text*; written out, since `any` over a generator takes twice as long."""
    for mark in marks:  # noqa: SIM110
        if mark in text:
            return True
    return False


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
