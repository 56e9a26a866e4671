"""What a model put out, where its form is the model's own: the addresses of files, and any other value."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from msgspec.structs import replace

from relay.jobs.observations import Result
from relay.upstreams.reading.media import is_kept, is_link, media_types, resolved
from relay.upstreams.reading.values import Figure

__all__ = ["NO_BASE", "anywhere", "candidates", "files", "links", "output", "safe"]

_RESULTS: Final = re.compile(
    r"(?:unsigned|signed|task|job|generated)?(?:outputs?|results?|videos?|images?|audios?|artifacts?|assets?|files?"
    r"|samples?|contents?|(?:backup)?(?:output|result|video|image|audio|file|download)?ur[il]s?)"
)
"""What fields are called that hold a result, in lower case and without separators."""

_AROUND: Final = frozenset({"data", "generatevideoresponse", "metadata", "response"})
"""What fields are called that hold such fields."""

_BESIDE: Final = re.compile(
    r"thumb|cover|preview|poster|input|source|prompt|request|reference|frame|callback|webhook|status|cancel|poll|progress"
    r"|(?<!no)watermark|origin|logs?$|^(?:get|self|stream|web)$"
)
"""What fields are called that hold addresses of other things."""

Redact: TypeAlias = Callable[[Any], Any]
"""Returns a JSON value with the secrets in it masked."""

NO_BASE = ""
"""In place of an answer's address, where only whole addresses count."""


def links(output: object, key: str | None = None, base: str = NO_BASE) -> tuple[str, ...]:
    """Every address within *output*, however nested, in order and once; with *key*, only those under that key.

    An address without a scheme or a host is resolved against *base*, the address of the answer.
    """
    return tuple(dict.fromkeys(_links(output, key, base, wanted=key is None)))


def candidates(output: object, base: str = NO_BASE) -> tuple[str, ...]:
    """Every address within *output* as `links` has them, and every address that is no web address but names a file."""
    return tuple(dict.fromkeys(_links(output, None, base, wanted=True, data=True)))


def anywhere(answer: Mapping[str, Any], base: str) -> tuple[str, ...]:
    """The addresses, others of files too, wherever the *answer* about a finished task has a result by its names.

    That is for what is not where the dialect has it: gateways, and new kinds of tasks, put it elsewhere.
    """
    return tuple(dict.fromkeys(_named(answer, base, within=False)))


def _named(value: object, base: str, *, within: bool) -> Iterator[str]:
    match value:
        case dict():
            for name, part in cast("dict[str, object]", value).items():
                folded = name.replace("_", "").replace("-", "").lower()
                holds = within or _RESULTS.fullmatch(folded) is not None
                if not _BESIDE.search(folded) and (holds or folded in _AROUND):
                    yield from _named(part, base, within=holds)
        case list():
            for part in cast("list[object]", value):
                yield from _named(part, base, within=within)
        case str() if within:
            yield from candidates(value, base)
        case _:
            pass


def files(addresses: Iterable[str | None]) -> Result:
    """A result of *addresses*, as far as there are any: those that are not on the web are its value."""
    found = [address for address in addresses if address is not None]
    urls = tuple(address for address in found if not is_kept(address))
    data = [address for address in found if is_kept(address)]
    return Result(urls=urls, media_types=media_types(urls), value=data[0] if len(data) == 1 else data or None)


def output(value: object, urls: tuple[str, ...], redact: Redact) -> Result:
    """A result of *urls*, which were found in *value*, and of *value* itself where it is more than addresses.

    Secrets are masked in the value, and success needs no file.
    """
    found = Result(urls=urls, media_types=media_types(urls), fileless=not urls)
    return replace(found, value=safe(value, redact)) if _says_more(value) else found


def safe(value: object, redact: Redact) -> Any:
    """*value* with the secrets in it masked; a figure that JSON does not have is text, as it was sent."""
    return redact(_as_sent(value))


def _as_sent(value: object) -> Any:
    match value:
        case Figure():
            return value.wire
        case dict():
            return {key: _as_sent(part) for key, part in cast("dict[str, object]", value).items()}
        case list():
            return [_as_sent(part) for part in cast("list[object]", value)]
        case _:
            return value


def _says_more(value: object) -> bool:
    """Whether there is anything in *value* but addresses and nothing."""
    match value:
        case None:
            return False
        case str():
            return bool(value) and not is_link(value)
        case dict():
            return any(map(_says_more, cast("dict[str, object]", value).values()))
        case list():
            return any(map(_says_more, cast("list[object]", value)))
        case _:
            return True


def _links(output: object, key: str | None, base: str, *, wanted: bool, data: bool = False) -> Iterator[str]:
    match output:
        case str():
            if wanted and (url := output if data and is_kept(output) else resolved(output, base)) is not None:
                yield url
        case list():
            for part in cast("list[object]", output):
                yield from _links(part, key, base, wanted=wanted, data=data)
        case dict():
            for name, part in cast("dict[str, object]", output).items():
                yield from _links(part, key, base, wanted=key is None or name == key, data=data)
        case _:
            pass
