"""How the pages of a list that was declared follow one another, and when a list may be but a page."""

from typing import Final, cast
from urllib.parse import urljoin, urlsplit

from relay.errors import UsageError
from relay.upstreams.declared.declaration import AnswerRequest
from relay.upstreams.declared.expressions import Evaluation
from relay.upstreams.declared.readings import compiled, found
from relay.upstreams.declared.requests import DeclaredRequest, FilledRequest
from relay.upstreams.http.reply import Reply
from relay.upstreams.reading.pages import cursor_in, has_a_usual_size, next_link, tells_of_more

__all__ = ["PLACES", "Paging"]

PLACES: Final = ("next", "page", "offset")
"""What a request for a list may say about which page it wants."""

_LONG: Final = 256 * 1024
_SIZES: Final = frozenset({"limit", "size", "count", "first", "top", "take", "per_page", "page_size", "max_results"})


class Paging:
    """The pages of one list. Raises UsageError, which names the key.

    A cursor is a text: what *next* found, the number of a page, how many items come before it, or a path below the base
    URL that an answer gave.
    """

    def __init__(self, name: str, request: AnswerRequest, template: DeclaredRequest) -> None:
        self._request = template
        self._next = None if request.next is None else compiled(f"{name}.next", request.next)
        self._by = next((place for place in PLACES if template.names(place)), None)
        self._follows_links = request.method == "GET" and self._by is None
        self._size = min(map(int, _sizes(request)), default=None)
        if request.next is not None and request.items is None:
            raise UsageError(f"{name}.next is for a list; {name}.items says where that is")
        if self._by == "next" and self._next is None:
            raise UsageError(f"{name} has the placeholder {{next}}, and no key 'next' that finds it in an answer")
        if template.demands("next"):
            raise UsageError(f"{name} has the placeholder {{next}}, which the first page has not: write {{next?}}")
        if self._next is not None and self._by in ("page", "offset"):
            raise UsageError(f"{name}.next and the placeholder {{{self._by}}} are two ways to page; take one")

    def filled(self, cursor: str | None) -> FilledRequest:
        """The request for the page at *cursor*, None for the first."""
        linked = cursor is not None and self._by is None
        first = {"next": None, "page": 1, "offset": 0}
        filled = self._request.filled(first if cursor is None or linked else first | {str(self._by): cursor})
        if cursor is None or not linked:
            return filled
        return FilledRequest(method=filled.method, path=cursor, headers=filled.headers, body=filled.body)

    def reads(self, reply: Reply) -> bool:
        """Whether `following` has use for the whole document, which is costly where it is long."""
        return self._next is not None or (self._by is None and len(reply.body) <= _LONG)

    def following(
        self, reply: Reply, document: object, *, listed: int, cursor: str | None, size: int, path: str
    ) -> tuple[str | None, bool]:
        """The cursor of the page behind this one, and whether there may be more that it does not lead to.

        *document* is the whole answer, None where that is too long to be read as one. This page *listed* so many items,
        the first one *size*; *path* is the requested one, below the base URL.
        """
        match self._by:
            case "page":
                return (str(int(cursor or 1) + 1), False) if 0 < listed >= size else (None, False)
            case "offset":
                return (str(int(cursor or 0) + listed), False) if 0 < listed >= size else (None, False)
            case _:
                pass
        if self._next is not None:
            finding = found("next", self._next, document, Evaluation())
            following, more = cursor_in(finding.value) if finding.problem is None else (None, True)
        else:
            following, more = next_link(reply.headers), False
        if self._by == "next" or (following is None and self._next is not None):
            return following, more
        if following is not None and self._follows_links:
            return (below, False) if (below := _below(path, following)) is not None else (None, True)
        full = has_a_usual_size(listed) or (self._size is not None and listed >= self._size)
        return None, full or following is not None or tells_of_more(document, listed)


def _below(path: str, link: str) -> str | None:
    """Where *link* leads, which an answer to *path* gave, as a path below the base URL; None for elsewhere.

    Only the target of the link counts: behind a proxy, servers name hosts and schemes that are not theirs.
    """
    try:
        parts = urlsplit(link)
        here = urlsplit(path).path
        target = urlsplit(urljoin(f"/{path.lstrip('/')}", parts._replace(scheme="", netloc="").geturl()))
    except ValueError:
        return None
    # An absolute path has the path of the base URL before ours, and ours does not change from page to page.
    if parts.path and not target.path.endswith(f"/{here.lstrip('/')}"):
        return None
    return f"{here}?{target.query}" if target.query else None


def _sizes(request: AnswerRequest) -> list[str]:
    """The sizes of a page that *request* names in its query or its body."""
    content: object = request.body
    body = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    named = [*request.query.items(), *body.items()]
    values = [str(value) for key, value in named if _snake(key) in _SIZES and not isinstance(value, bool)]
    return [value for value in values if value.isascii() and value.isdigit() and 0 < len(value) < 8]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).replace("-", "_").strip("_")
