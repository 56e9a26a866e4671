"""A whole API, as it was declared: every part is checked once, before the first request."""

from collections.abc import Mapping

from relay.errors import UsageError
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.declared.expressions import Expression
from relay.upstreams.declared.questions import Meaning, Order, Question, checked_codes, checked_states
from relay.upstreams.declared.readings import compiled
from relay.upstreams.declared.requests import naming
from relay.upstreams.declared.templates import PathTemplate

__all__ = ["Api"]


class Api:
    """The requests of an API and how their answers are read. Raises UsageError, which names the key."""

    def __init__(
        self,
        poll: PollRequest,
        *,
        submit: SubmitRequest | None = None,
        result: ResultRequest | None = None,
        cancel: CancelRequest | None = None,
        states: Mapping[str, str] | None = None,
        codes: Mapping[str, str] | None = None,
    ) -> None:
        words = checked_states(states or {})
        self.codes: dict[str, Meaning] = checked_codes(codes or {})
        self.poll: Question = Question("poll", poll, words)
        self.result: Question | None = None if result is None else Question("result", result, words)
        self.ref: Expression | None = (
            None if result is None or result.ref is None else compiled("result.ref", result.ref)
        )
        self.content: PathTemplate | None = None if poll.content is None else _content(poll.content)
        self.submit: Order | None = None if submit is None else Order("submit", submit, "input")
        self.id: Expression | None = None if submit is None else compiled("submit.id", submit.id)
        self.cancel: Order | None = None if cancel is None else Order("cancel", cancel, "task")
        if result is not None and result.urls is None and result.result is None and result.status is None:
            raise UsageError("result needs the key 'urls' or 'result': what to read in its answer")
        if self.ref is not None and self.poll.items is not None:
            raise UsageError("result.ref is for a poll of one task, and poll.items makes it one of all")


def _content(path: str) -> PathTemplate:
    with naming("poll.content"):
        template = PathTemplate(path, ("task",))
    if not template.places:
        raise UsageError("poll.content must say which task, as in videos/{task}/content")
    return template
