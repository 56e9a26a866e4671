"""Text from outside, made safe to keep and safe to print."""

import re
from typing import Final

__all__ = ["LINE_LIMIT", "TEXT_LIMIT", "bounded", "inert"]

TEXT_LIMIT: Final = 8_192
"""The most characters any text field of an event holds; what is longer ends in a marker."""

LINE_LIMIT: Final = 1_000
"""The most characters the human line of an event holds."""

# C0 and C1 controls move a terminal's cursor, set its title or its clipboard; U+2028 and U+2029 break lines for some
# readers; the bidi and zero-width characters make a line read differently from what it says (Unicode TR 36, 2.4-2.5);
# U+E0000-E007F are invisible tags; a lone surrogate cannot be encoded at all.
_ACTIVE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def inert(text: str) -> str:
    r"""*text* as one line that only prints: every character that acts is shown as its escape (``\n``, ``\x1b``)."""
    if text.isascii() and text.isprintable():
        return text
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


CUT: Final = " characters in all]"
"""How a text ends that was cut."""


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """*text* as valid Unicode of at most *limit* characters; a cut is marked with how much is missing."""
    if not text.isascii():
        text = _well_formed(text)
    if len(text) <= limit:
        return text
    marker = f"... [{len(text):,}{CUT}"
    return text[: max(0, limit - len(marker))] + marker


def _well_formed(text: str) -> str:
    """Surrogate pairs joined, lone surrogates replaced: JSON permits both, UTF-8 neither (RFC 8259, 8.2)."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
