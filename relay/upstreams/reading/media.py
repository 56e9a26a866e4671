"""Links to results: whether one is a link, and what kind of file it leads to."""

from collections.abc import Sequence
from typing import Final, TypeGuard
from urllib.parse import urlsplit

__all__ = ["is_link", "media_type", "media_types", "path_of"]

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


def is_link(url: object) -> TypeGuard[str]:
    """Whether *url* is an http or https address."""
    return isinstance(url, str) and url.lower().startswith(("https://", "http://"))


def media_type(name: str) -> str | None:
    """The media type by a file's name or URL; None where it does not tell."""
    return _MEDIA_TYPES.get(path_of(name).rpartition(".")[2].lower())


def media_types(urls: Sequence[str]) -> tuple[str, ...]:
    """The media type of each of *urls*, empty unless all tell theirs."""
    found = [media_type(url) for url in urls]
    return tuple(kind for kind in found if kind is not None) if None not in found else ()


def path_of(url: str) -> str:
    """The path of *url*, empty where it cannot be one."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
