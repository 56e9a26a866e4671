"""Secrets taken out of texts that people will read: exchanges, error messages, reasons given by an upstream."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from msgspec.structs import replace

from relay.observations import Observation
from relay.text import CUT

__all__ = ["MASK", "Masker", "is_secret_header", "masked_headers", "without_secrets"]

MASK: Final = "***"

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "openai-sentinel-token"}
)

# What makes a signed URL work: Azure (sig, se), AWS (X-Amz-*), Google (X-Goog-*), CloudFront (Policy, Key-Pair-Id),
# Runway (_jwt), and the usual names. Inside JSON the "&" may be spelled \u0026, inside another URL %26, inside HTML
# &amp;.
_QUERY = re.compile(
    r"((?:[?&;#]|\\u0026|%26|%3F)"
    r"(?:sig|se|signature|token|access_token|auth|api_?key|key|secret|hmac|policy|expires|key-pair-id"
    r"|_?jwt|x-amz-[a-z-]+|x-goog-[a-z-]+)(?:=|%3D))"
    r"(?:(?!\\u0026|%26)[^&\s\"'<>\\;#])+",
    re.IGNORECASE,
)

_JSON_FIELD = re.compile(
    r'("(?:access_token|refresh_token|id_token|token|api_?key|authorization|cookie|password|secret)"\s*:\s*")'
    r'(?:[^"\\]|\\.)+',
    re.IGNORECASE,
)

_CALLBACK = re.compile(r"cb_[A-Za-z0-9_-]{43}")
"""What proves that a call comes from an upstream (`relay.callbacks`)."""


_TELLTALE = re.compile(r"[=\"]|%3D|cb_", re.IGNORECASE)
"""What every pattern above has in it, and most words that an upstream sends have not."""


class Masker:
    """Masks one upstream's secrets in any text, however they got there.

    The *secrets* themselves are found as they are, percent-encoded and JSON-escaped; values that sign a URL and fields
    that are named like a secret are masked whatever they hold.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _spellings(secret)}
        # The longest first: one spelling may hold another.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str, limit: int | None = None) -> str:
        """*text* without secrets, of at most *limit* characters of the original.

        The text is cut between the two steps: a secret is looked for in the whole, so that no half of one is left at
        the cut, and the patterns only in what is kept.
        """
        for form in self._forms:
            text = text.replace(form, MASK)
        if limit is not None:
            text = text[:limit]
        if _TELLTALE.search(text) is None:
            return text
        text = _CALLBACK.sub(f"cb_{MASK}", text)
        return _JSON_FIELD.sub(rf"\1{MASK}", _QUERY.sub(rf"\1{MASK}", text))


def without_secrets(seen: Observation, mask: Masker) -> Observation:
    """*seen*, with no secret in what is quoted from the upstream as it was sent: an upstream may repeat a request."""
    word = seen.raw_status and mask(seen.raw_status)
    figure = seen.raw_percent and mask(seen.raw_percent)
    # The cut may have left the first half of a secret, which nothing would find.
    if figure and figure.endswith(CUT):
        figure = MASK
    if word == seen.raw_status and figure == seen.raw_percent:
        return seen
    return replace(seen, raw_status=word, raw_percent=figure)


def masked_headers(headers: Mapping[str, str]) -> str:
    """Headers as lines of text, the values of those that carry secrets masked."""
    return "".join(f"{name}: {MASK if is_secret_header(name) else value}\n" for name, value in headers.items())


def is_secret_header(name: str) -> bool:
    """Whether a header of this name carries a secret, whatever it holds."""
    return name.lower() in _SECRET_HEADERS


def _spellings(secret: str) -> set[str]:
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
