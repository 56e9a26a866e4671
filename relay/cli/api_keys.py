"""API keys as `relay token` makes them: a prefix that scanners find, random characters, and a check against typing.

[spec] The form is that of GitHub's tokens: base62, the last six characters a CRC32 of the others.
"""

import re
import secrets
import string
from typing import Final
from zlib import crc32

__all__ = ["PREFIX", "has_typing_error", "new_key"]

PREFIX: Final = "rlk_"

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM: Final = 30
"""179 bits."""
_CHECK: Final = 6
_FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


def new_key() -> str:
    """A key that nobody has yet."""
    body = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    return f"{PREFIX}{body}{_checksum(body)}"


def has_typing_error(key: str) -> bool:
    """Whether *key* begins as one that `new_key` has made, and cannot be one; false for keys of any other form."""
    if not key.startswith(PREFIX):
        return False
    body, check = key[len(PREFIX) : -_CHECK], key[-_CHECK:]
    return not _FORM.fullmatch(key) or check != _checksum(body)


def _checksum(body: str) -> str:
    number, digits = crc32(body.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
