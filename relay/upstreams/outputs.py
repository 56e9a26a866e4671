"""What a model put out, where its form is the model's own: the addresses of files, wherever they are in it."""

from collections.abc import Iterable, Iterator
from typing import cast

from relay.observations import Result
from relay.upstreams.media import is_link, media_types

__all__ = ["files", "links"]


def links(output: object, key: str | None = None) -> tuple[str, ...]:
    """Every address within *output*, however nested, in order and once; with *key*, only those under that key."""
    return tuple(dict.fromkeys(_links(output, key, wanted=key is None)))


def files(urls: Iterable[object]) -> Result:
    """A result of those of *urls* that are addresses."""
    kept = tuple(url for url in urls if isinstance(url, str) and is_link(url))
    return Result(urls=kept, media_types=media_types(kept))


def _links(output: object, key: str | None, *, wanted: bool) -> Iterator[str]:
    match output:
        case str():
            if wanted and is_link(output):
                yield output
        case list():
            for part in cast("list[object]", output):
                yield from _links(part, key, wanted=wanted)
        case dict():
            for name, part in cast("dict[str, object]", output).items():
                yield from _links(part, key, wanted=key is None or name == key)
        case _:
            pass
