"""A list that comes in pages: read until the wanted tasks are found, and treated as partial if it may be."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, cast

from msgspec import Struct

from relay.errors import ErrorKind, UpstreamError
from relay.text import late_pattern

__all__ = ["PAGES", "Look", "Page", "Pages", "cursor_in", "has_a_usual_size", "next_link", "tells_of_more"]

PAGES: Final = 20
"""How many pages one look reads at most. The next look goes on behind them."""

_CURSOR_LIMIT: Final = 2_048

_OF_THE_ACCOUNT: Final[frozenset[ErrorKind]] = frozenset({"auth", "rate-limit", "network", "timeout", "server"})

_USUAL_SIZES: Final = frozenset(
    {
        *(10, 12, 15, 16, 20, 24, 25, 30, 32, 36, 40, 48, 50, 60, 64, 75, 80, 96),
        *(100, 120, 125, 128, 150, 200, 250, 256, 300, 400, 500, 512, 750, 800, 1_000, 1_024),
    }
)

_MORE: Final = late_pattern(
    r"(?:.*_)?(?:next(?:_.*)?|(?:next_|end_|after_)?cursor|has_?more.*|more|truncated|is_truncated|incomplete.*)"
    r"|.*page_?token|continuation.*",
    re.IGNORECASE,
)
_TOTAL: Final = late_pattern(r"total(?:_?(?:count|items|results|elements|hits|size))?", re.IGNORECASE)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
_LINK: Final = late_pattern(r"<([^<>]{1,4096})>((?:\s*;\s*[^,;\"]*(?:\"[^\"]*\")?)*)")
_NEXT: Final = late_pattern(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next(?![\w-]))", re.IGNORECASE)


class Page(Struct, frozen=True, kw_only=True):
    """One page that has been read: how many items it *listed*, and the cursor of the page behind it.

    Without a *next* it is the last, unless there may be *more* that no cursor leads to. *enough* says that whatever is
    behind it is of no interest. *poll_after* is in seconds.
    """

    listed: int
    next: str | None = None
    more: bool = False
    enough: bool = False
    poll_after: float | None = None


class Look(Struct, frozen=True, kw_only=True):
    """What came of a look at a list. It was *partial* unless all pages were read, or those up to *enough* of them."""

    listed: int
    partial: bool
    enough: bool = False
    poll_after: float | None = None


class Pages:
    """The pages of one list, over many looks at it.

    A look begins at the first page, which holds the newest. If the look before broke off at PAGES pages, this one goes
    on where it did: so a long list is read to its end in some looks, and none of them takes long.
    """

    def __init__(self) -> None:
        self._broke_off_at: str | None = None

    async def look(
        self, ask: Callable[[str | None], Awaitable[Page]], wanted: Collection[str], found: Mapping[str, object]
    ) -> Look:
        """Read pages until all that is *wanted* is *found*, which *ask* sees to: it reads the page at a cursor.

        The first page has the cursor None. A page that cannot be had ends the look, and what was found before it
        stands. Raises UpstreamError where the first page cannot be had, and where nothing at all was found and the
        trouble is the account's.
        """
        resumed, self._broke_off_at = self._broke_off_at, None
        page = await ask(None)
        listed, poll_after = page.listed, page.poll_after
        followed: set[str] = set()
        partial = page.more
        while page.next is not None and not page.enough and len(found) < len(wanted):
            cursor = page.next
            if resumed is not None:
                cursor, resumed, partial = resumed, None, True
            if cursor in followed:
                return Look(listed=listed, partial=True, poll_after=poll_after)
            if len(followed) + 1 == PAGES:
                self._broke_off_at = cursor
                return Look(listed=listed, partial=True, poll_after=poll_after)
            followed.add(cursor)
            try:
                page = await ask(cursor)
            except UpstreamError as error:
                if error.kind in _OF_THE_ACCOUNT and not found:
                    raise
                return Look(listed=listed, partial=True, poll_after=error.retry_after or poll_after)
            listed += page.listed
            poll_after = page.poll_after or poll_after
            partial = partial or page.more
        cut = page.next is not None and not page.enough
        return Look(listed=listed, partial=partial or cut, enough=page.enough, poll_after=poll_after)


def cursor_in(value: object) -> tuple[str | None, bool]:
    """The cursor that *value* is, None for none; and whether there is more that it does not lead to.

    Nothing, false and an empty text mean that this was the last page. A value that is no cursor means nothing.
    """
    match value:
        case None | False | "":
            return None, False
        case str() if len(value) <= _CURSOR_LIMIT and value.isprintable():
            return value, False
        case bool() | float():
            return None, True
        case int():
            return str(value), False
        case _:
            return None, True


def has_a_usual_size(items: int) -> bool:
    """Whether a list of so many *items* may be a page: sizes of pages are round numbers."""
    return items in _USUAL_SIZES


def tells_of_more(document: object, items: int) -> bool:
    """Whether what stands beside a list of so many *items* says that there are more: a cursor, `has_more`, a total."""
    if not isinstance(document, dict):
        return False
    fields = list(cast("dict[str, object]", document).items())
    nested = [cast("dict[str, object]", value) for _, value in fields if isinstance(value, dict)]
    fields += [field for inner in nested for field in inner.items()]
    return any(_is_more(_CAMEL.sub("_", name), value, items) for name, value in fields)


def next_link(headers: Mapping[str, str]) -> str | None:
    """The address of the next page in a Link header (RFC 8288), None where there is none."""
    for match in _LINK.finditer(headers.get("Link", "")):
        if _NEXT.search(match[2]):
            return match[1]
    return None


def _is_more(name: str, value: object, items: int) -> bool:
    if _TOTAL.fullmatch(name):
        return isinstance(value, int) and not isinstance(value, bool) and value > items
    return bool(_MORE.fullmatch(name)) and isinstance(value, str | bool | int) and value not in ("", False, 0)
