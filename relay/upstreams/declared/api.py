"""A whole API, as it was declared: every part is checked once, before the first request."""

from collections.abc import Mapping

from relay.errors import UsageError
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.declared.questions import Order, Question, checked_codes, checked_states
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
        self.codes = checked_codes(codes or {})
        self.poll = Question("poll", poll, words)
        self.result = None if result is None else Question("result", result, words)
        self.ref = None if result is None or result.ref is None else compiled("result.ref", result.ref)
        self.content = None if poll.content is None else _content(poll.content)
        self.submit = None if submit is None else Order("submit", submit, "input")
        self.id = None if submit is None else compiled("submit.id", submit.id)
        self.cancel = None if cancel is None else Order("cancel", cancel, "task")
        if result is None and poll.urls is None and poll.content is None:
            raise UsageError("poll needs the key 'urls' or 'content', unless there is a result: where its files are")
        if self.ref is not None and self.poll.items is not None:
            raise UsageError("result.ref is for a poll of one task, and poll.items makes it one of all")


def _content(path: str) -> PathTemplate:
    with naming("poll.content"):
        template = PathTemplate(path, ("task",))
    if not template.places:
        raise UsageError("poll.content must say which task, as in videos/{task}/content")
    return template
