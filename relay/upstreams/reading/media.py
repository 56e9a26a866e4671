"""Links to results: whether one is a link, and what kind of file it leads to."""

import re
from collections.abc import Sequence
from typing import Final, TypeGuard
from urllib.parse import quote, unquote, urljoin, urlsplit

__all__ = ["is_data", "is_kept", "is_link", "media_type", "media_type_of_file", "media_types", "path_of", "resolved"]

_MEDIA_TYPES: Final = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "gif": "image/gif",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}

_NOT_IN_ADDRESS: Final = re.compile(r"[\x00-\x20\x7f<>\"\\^`{|}\ud800-\udfff]")
"""Characters that no address holds unescaped (RFC 3986, 2): a text with one of these is no address."""

_BUCKET: Final = re.compile(
    r"(?:s3|gs|gcs|r2|az|abfss?|wasbs?|oss|cos|obs|tos|ipfs|ftps?|sftp)://[^\s/]", re.IGNORECASE
)
_TO_ESCAPE: Final = re.compile(r"[\x00-\x20\x7f\"<>]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FILE: Final = re.compile(r"[^/?#]*\.[A-Za-z0-9]{1,8}(?:[?#].*)?")


def is_link(url: object) -> TypeGuard[str]:
    """Whether *url* is an http or https address."""
    return isinstance(url, str) and url.lower().startswith(("https://", "http://"))


def is_data(value: object) -> TypeGuard[str]:
    """Whether *value* is a data: address, which is the file itself."""
    return isinstance(value, str) and value[:5].lower() == "data:"


def is_kept(value: object) -> TypeGuard[str]:
    """Whether *value* names a file that is not on the web: a data: address, or one of a bucket, such as s3: or gs:."""
    return is_data(value) or (isinstance(value, str) and _BUCKET.match(value) is not None)


def resolved(value: object, base: str) -> str | None:
    """The http or https address that *value* names in an answer from the address *base*; None where it names none.

    An address without a scheme or a host is relative to *base* (RFC 3986, 5). A text that does not look like a path is
    none: it begins with a slash or a dot, or ends in the name of a file with an extension. Spaces and the like in an
    address are escaped: the rest after a space would be lost otherwise.
    """
    if not isinstance(value, str):
        return None
    url = value.strip()
    if is_link(url):
        return _TO_ESCAPE.sub(lambda match: quote(match[0]), url) if _has_host(url) else None
    if not url.strip("/") or _SCHEME.match(url) or _NOT_IN_ADDRESS.search(url):
        return None
    if not url.startswith(("/", "./", "../")) and not _FILE.fullmatch(url.rpartition("/")[2]):
        return None
    try:
        found = urljoin(base, url)
    except ValueError:
        return None
    return found if is_link(found) and _has_host(found) else None


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def media_type(url: str) -> str | None:
    """The media type by a URL's path; None if it shows none."""
    return media_type_of_file(unquote(path_of(url)))


def media_type_of_file(name: str) -> str | None:
    """The media type by a file's *name*, in which every character stands for itself; None if it shows none."""
    return _MEDIA_TYPES.get(name.rpartition(".")[2].lower())


def media_types(urls: Sequence[str]) -> tuple[str, ...]:
    """The media type of each of *urls*, empty unless all show theirs."""
    found = [media_type(url) for url in urls]
    return tuple(kind for kind in found if kind is not None) if None not in found else ()


def path_of(url: str) -> str:
    """The path of *url*, empty where it cannot be one."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
