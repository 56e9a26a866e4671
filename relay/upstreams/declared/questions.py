"""Requests of a declared API: queries, with the reading of their answers, and commands."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias, cast, get_args

from msgspec import Raw

from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.hints import nearest
from relay.jobs.observations import folded
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.declared.expressions import Evaluation, Expression
from relay.upstreams.declared.paging import PLACES, Paging
from relay.upstreams.declared.readings import Finding, Reader, compiled, found
from relay.upstreams.declared.requests import DeclaredRequest
from relay.upstreams.reading.long_lists import read_beside, split
from relay.upstreams.reading.pages import Pages
from relay.upstreams.reading.values import DEPTH_LIMIT, identifier, read_json

__all__ = ["FindingsListener", "Meaning", "Order", "Question", "checked_codes", "checked_states"]

FindingsListener: TypeAlias = Callable[[str, str | None, tuple[Finding, ...]], None]
"""Receives the name of a request, its task, and the value that each of its expressions found."""

Meaning: TypeAlias = Literal["policy", "auth", "rate-limit", "not-found", "timeout", "server", "refused"]
"""What an error code of an API can mean to the relay."""

_MEANINGS: Final[tuple[Meaning, ...]] = get_args(Meaning)
_ABOUT_ASKING: Final = (401, 403, 407, 408, 425, 429)
_STATES: Final[tuple[Status, ...]] = get_args(Status)


class Question:
    """A request whose answer reports on one task, or with *items* on all. Raises UsageError, which names the key."""

    def __init__(self, name: str, request: PollRequest | ResultRequest, states: Mapping[str, Status]) -> None:
        if (request.items is None) != (request.id is None):
            given, missing = ("items", "id") if request.id is None else ("id", "items")
            raise UsageError(f"{name} needs the key {missing!r} beside {given!r}: together they are a list of tasks")
        self.name = name
        self.items: Expression | None = None if request.items is None else compiled(f"{name}.items", request.items)
        self.answers: Collection[int] = _checked_answers(name, request.answers)
        self.status: str | None = request.status
        self.brings: str | None = next((key for key in ("urls", "result") if getattr(request, key) is not None), None)
        self._id = None if request.id is None else compiled(f"{name}.id", request.id)
        refers = isinstance(request, ResultRequest) and request.ref is not None
        known = () if self.items else ("task", "ref") if refers else ("task",)
        self.request: DeclaredRequest = DeclaredRequest(name, request, known, page=PLACES if self.items else ())
        self.paging: Paging = Paging(name, request, self.request)
        self.pages: Pages = Pages()
        if known and not any(map(self.request.names, known)):
            raise UsageError(f"{name}.path must say which task, as in videos/{{task}}; or {name}.items lists them all")
        self.reader: Reader = Reader(name, request, states)

    async def listed(self, body: bytes, evaluation: Evaluation) -> Sequence[object]:
        """The items of the list in *body*, each to be opened with `opened`.

        Raises UpstreamError (malformed) where there is no list, which is not an empty one.
        """
        if self.items is None:
            return ()
        if self.items.way is not None and (pieces := split(body, self.items.way)) is not None:
            return pieces
        return await read_beside(body, partial(self._found, self.items, evaluation))

    def opened(self, item: object) -> object:
        """*item* of what was `listed`, as it is read. Raises UpstreamError (malformed)."""
        if self.items is None or not isinstance(item, Raw):
            return item
        return read_json(bytes(item), DEPTH_LIMIT - 1 - len(self.items.way or ()))

    def _found(self, expression: Expression, evaluation: Evaluation, document: object) -> list[object]:
        items = found("items", expression, document, evaluation).value
        if not isinstance(items, list):
            raise UpstreamError("malformed", f"{self.name}.items finds no list in the answer")
        return cast("list[object]", items)

    def task_of(self, item: object, evaluation: Evaluation) -> str | None:
        """The task that *item* is about, None where it names none."""
        return None if self._id is None else identifier(found("id", self._id, item, evaluation).value)


class Order:
    """A request that has something done. Raises UsageError, which names the key."""

    def __init__(self, name: str, request: SubmitRequest | CancelRequest, subject: str) -> None:
        self.request: DeclaredRequest = DeclaredRequest(name, request, (subject,))
        if isinstance(request, CancelRequest) and not self.request.names(subject):
            raise UsageError(f"{name}.path must say which task, as in videos/{{task}}")
        self.error: Expression | None = None if request.error is None else compiled(f"{name}.error", request.error)

    def errors(self, document: object, evaluation: Evaluation) -> tuple[Finding, ...]:
        """The value found at the place of an error."""
        return () if self.error is None else (found("error", self.error, document, evaluation),)


def _checked_answers(name: str, answers: Collection[int]) -> Collection[int]:
    for status in answers:
        if status in _ABOUT_ASKING:
            raise UsageError(f"{name}.answers has {status}, which is about the request and not about a task")
    return answers


def checked_states(states: Mapping[str, str]) -> dict[str, Status]:
    """*states* by their words, in lower case and `folded`. Raises UsageError for what is no state of the relay."""
    for word, state in states.items():
        if state not in _STATES:
            raise UsageError(f"states.{word} is {state!r}, which is no state; {nearest(state, _STATES)}")
    words: dict[str, Status] = {folded(word): cast(Status, state) for word, state in states.items()}
    words.update({word.strip().lower(): cast(Status, state) for word, state in states.items()})
    return words


def checked_codes(codes: Mapping[str, str]) -> dict[str, Meaning]:
    """*codes* themselves. Raises UsageError for a meaning that the relay does not know."""
    for code, meaning in codes.items():
        if meaning not in _MEANINGS:
            raise UsageError(f"codes.{code} is {meaning!r}, which is no kind of error; {nearest(meaning, _MEANINGS)}")
    return {code: cast(Meaning, meaning) for code, meaning in codes.items()}
