"""What the relay asks of an upstream's adapter. One required ability, and optional ones, probed at run time."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from relay.cadence import Pace
from relay.events import Exchange
from relay.observations import Answer

__all__ = [
    "CallsBack",
    "Cancels",
    "ExchangeListener",
    "FetchesResults",
    "News",
    "Paced",
    "Pushes",
    "Reauthorises",
    "Submits",
    "Upstream",
    "is_item_type",
    "pace_of",
]

ExchangeListener = Callable[[Exchange], None]

News = Callable[[str], bool]
"""Hears that there is something new about a task; returns whether anybody follows it."""


@runtime_checkable
class Upstream(Protocol):
    """Somebody else's job API, for one account.

    An adapter translates, and no more: it never sleeps, retries, logs or remembers a job. It is entered before its
    first call and left after its last. *interval* and *deadline* are in seconds: how often to ask, and how long a job
    may take. *on_exchange*, where set, hears every raw exchange, secrets already masked.

    One request answers for all tasks of a list-type upstream. An adapter that has to make a request for each task says
    `item_type = True`: then each job keeps a cadence of its own, and `observe` is asked about one task or a few, many
    times at once. Such an adapter puts an UpstreamError about one task into the answer, and raises what is about all.
    """

    name: str
    interval: float
    deadline: float
    on_exchange: ExchangeListener | None

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about *tasks* now, in as few requests as its API allows.

        Raises UpstreamError where it says nothing that can be read, and nothing else on purpose.
        """
        ...


@runtime_checkable
class FetchesResults(Protocol):
    """An upstream that keeps results elsewhere than pending jobs."""

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about the results of *tasks*; a task left out has none yet. Raises UpstreamError."""
        ...


@runtime_checkable
class Submits(Protocol):
    """An upstream that takes new work."""

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Hand in *input*, once, and return the upstream's task id. It may cost money: nobody repeats it by itself.

        Raises UsageError where *input* is not what it takes, UpstreamError where it did not take it.
        """
        ...


@runtime_checkable
class Cancels(Protocol):
    """An upstream that can be told to stop."""

    async def cancel(self, task: str) -> None:
        """Ask the upstream to stop *task*. Raises UpstreamError where it did not agree."""
        ...


@runtime_checkable
class CallsBack(Protocol):
    """An upstream that calls an address when a task has news, if it is asked to when the task is submitted."""

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """*input*, asking to call *url*. Where *input* itself says whom to call, that stays."""
        ...


@runtime_checkable
class Pushes(Protocol):
    """An upstream that can tell by itself that a task has news.

    Its adapter calls *on_news*, which the relay sets before it enters the adapter, on the loop's thread. Polling stays
    the truth: all that news does is to bring the next poll forward. What listens ends where the adapter is left.
    """

    on_news: News | None


@runtime_checkable
class Paced(Protocol):
    """An upstream with more to say about when it may be asked than an interval and a deadline."""

    pace: Pace


@runtime_checkable
class Reauthorises(Protocol):
    """An upstream whose token may change while jobs run, such as one that is read from a file."""

    def credential(self) -> object:
        """A value that is equal as long as the token is the same, and that tells nothing of it."""
        ...


def is_item_type(upstream: Upstream) -> bool:
    """Whether *upstream* needs a request for each task, which its adapter says with `item_type = True`."""
    return bool(getattr(upstream, "item_type", False))


def pace_of(upstream: Upstream) -> Pace:
    """When *upstream* may be asked: its `pace`, or one of its interval and its deadline."""
    return (
        upstream.pace if isinstance(upstream, Paced) else Pace(interval=upstream.interval, deadline=upstream.deadline)
    )
