"""What is asked of an API that was declared, and what it is told: a request, and how its answer is read."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast, get_args

from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.tables import nearest
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.declared.expressions import Evaluation
from relay.upstreams.declared.readings import Finding, Reader, compiled, found, identifier
from relay.upstreams.declared.requests import DeclaredRequest

__all__ = ["FindingsListener", "Order", "Question", "checked_states"]

FindingsListener: TypeAlias = Callable[[str, str | None, tuple[Finding, ...]], None]
"""Hears the name of a request, the task it was about, and what each of its expressions found."""

_STATES: Final[tuple[Status, ...]] = get_args(Status)


class Question:
    """A request whose answer tells of one task, or with *items* of all. Raises UsageError, which names the key."""

    def __init__(self, name: str, request: PollRequest | ResultRequest, states: Mapping[str, Status]) -> None:
        if (request.items is None) != (request.id is None):
            given, missing = ("items", "id") if request.id is None else ("id", "items")
            raise UsageError(f"{name} needs the key {missing!r} beside {given!r}: together they are a list of tasks")
        self.name = name
        self.items = None if request.items is None else compiled(f"{name}.items", request.items)
        self.says_status = request.status is not None
        self._id = None if request.id is None else compiled(f"{name}.id", request.id)
        refers = isinstance(request, ResultRequest) and request.ref is not None
        known = () if self.items else ("task", "ref") if refers else ("task",)
        self.request = DeclaredRequest(name, request, known)
        if known and not any(map(self.request.names, known)):
            raise UsageError(f"{name}.path must say which task, as in videos/{{task}}; or {name}.items lists them all")
        self.reader = Reader(name, request, states)

    def listed(self, document: object, evaluation: Evaluation) -> list[object]:
        """The items of a list. Raises UpstreamError (malformed) where there is none, which is not an empty one."""
        if self.items is None:
            return []
        finding = found("items", self.items, document, evaluation)
        items = finding.value
        if not isinstance(items, list):
            raise UpstreamError("malformed", f"{self.name}.items finds no list in the answer")
        return cast("list[object]", items)

    def task_of(self, item: object, evaluation: Evaluation) -> str | None:
        """The task that *item* is about, None where it names none."""
        return None if self._id is None else identifier(found("id", self._id, item, evaluation).value)


class Order:
    """A request that has something done. Raises UsageError, which names the key."""

    def __init__(self, name: str, request: SubmitRequest | CancelRequest, subject: str) -> None:
        self.request = DeclaredRequest(name, request, (subject,))
        if isinstance(request, CancelRequest) and not self.request.names(subject):
            raise UsageError(f"{name}.path must say which task, as in videos/{{task}}")
        self.error = None if request.error is None else compiled(f"{name}.error", request.error)

    def errors(self, document: object, evaluation: Evaluation) -> tuple[Finding, ...]:
        """What is found where an error would be."""
        return () if self.error is None else (found("error", self.error, document, evaluation),)


def checked_states(states: Mapping[str, str]) -> dict[str, Status]:
    """*states* with their words in lower case. Raises UsageError for what is no state of the relay."""
    for word, state in states.items():
        if state not in _STATES:
            raise UsageError(f"states.{word} is {state!r}, which is no state; {nearest(state, _STATES)}")
    return {word.strip().lower(): cast(Status, state) for word, state in states.items()}
