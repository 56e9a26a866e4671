"""The `Accept` header ([spec] RFC 9110, 12.5.1): parsed, and matched with the offered types. No I/O."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["MediaRange", "best_offer", "is_named", "parse_accept"]

# Commas and semicolons within a quoted string separate nothing.
_ELEMENT: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PART: Final = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_RANGE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)/([!#$%&'*+.^_`|~0-9a-z-]+)")
_WEIGHT: Final = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


READ: Final = 8_192
"""Characters that are parsed, of all `Accept` headers together; a browser sends about 100."""

RANGES: Final = 64


class MediaRange(NamedTuple):
    """A media range, `*` for any, and its weight: 0 for not acceptable, up to 1."""

    type: str
    subtype: str
    weight: float

    @property
    def precision(self) -> int:
        """How precisely a type is named: 2 for its full name, 0 for any type."""
        return (self.type != "*") + (self.subtype != "*")

    def holds(self, offer: str) -> bool:
        """Whether the media type *offer* is in this range."""
        whole = self.type, self.subtype
        return all(mine in ("*", theirs) for mine, theirs in zip(whole, offer.split("/"), strict=True))


def parse_accept(headers: Iterable[str]) -> list[MediaRange]:
    """The ranges in the `Accept` *headers*. Malformed ranges are skipped; if none is left, any type is accepted.

    Parameters are not compared, and a malformed weight is 1. Only the first RANGES ranges within the first READ
    characters are read.
    """
    whole = ",".join(headers)
    elements = _ELEMENT.findall(whole[:READ].lower())
    if len(whole) > READ and elements:
        del elements[-1]  # it may have been cut off, and would mean something else
    return [one for element in elements[:RANGES] if (one := _range(element)) is not None] or [MediaRange("*", "*", 1.0)]


def best_offer(offers: Sequence[str], accepted: Iterable[MediaRange]) -> str | None:
    """The one of *offers* that the client prefers; None if it accepts none.

    For each offer, the range that names it most precisely counts. Among offers of one weight, the one that is named
    more precisely is preferred, and then the one that is offered first.
    """
    ranges, best, chosen = list(accepted), (0.0, 0), None
    for offer in offers:
        precision, weight = max(((one.precision, one.weight) for one in ranges if one.holds(offer)), default=(0, 0.0))
        if weight and (weight, precision) > best:
            best, chosen = (weight, precision), offer
    return chosen


def is_named(offer: str, accepted: Iterable[MediaRange]) -> bool:
    """Whether the client accepts *offer* and names it in full."""
    return any(one.precision == 2 and one.weight > 0 and one.holds(offer) for one in accepted)


def _range(element: str) -> MediaRange | None:
    name, *parameters = [part.strip() for part in _PART.findall(element)] or [""]
    found = _RANGE.fullmatch(name)
    if found is None or (found[1] == "*" and found[2] != "*"):
        return None
    weights = [value.strip() for parameter in parameters if (value := _weight_in(parameter)) is not None]
    weight = float(weights[0]) if weights and _WEIGHT.fullmatch(weights[0]) else 1.0
    return MediaRange(found[1], found[2], min(weight, 1.0))


def _weight_in(parameter: str) -> str | None:
    name, _, value = parameter.partition("=")
    return value if name.strip() == "q" else None
