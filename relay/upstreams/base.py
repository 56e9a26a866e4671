"""What the relay asks of an upstream's adapter. One required ability, and optional ones, probed at run time."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from relay.events import Exchange
from relay.jobs.observations import Answer
from relay.pace import Pace
from relay.supervision.supervisor import Supervise

__all__ = [
    "AcceptsWebhook",
    "Cancels",
    "ChecksInput",
    "CountsRequests",
    "ExchangeListener",
    "FetchesResults",
    "FindsSubmitted",
    "KeepsTasks",
    "News",
    "Paced",
    "Pushes",
    "RotatesToken",
    "Submits",
    "Upstream",
    "pace_of",
    "polls_each_task",
    "prompt_keys",
]

ExchangeListener = Callable[[Exchange], None]

News = Callable[[str], bool]
"""Receives the news that a task has changed; returns whether any job follows it."""


@runtime_checkable
class Upstream(Protocol):
    """Somebody else's job API, for one account.

    An adapter translates, and no more: it never sleeps, retries, logs or remembers a job. It is entered before its
    first call and left after its last. *interval* and *deadline* are in seconds: how often to poll, and how long a job
    may last. *on_exchange*, if set, receives every raw exchange, secrets already redacted.

    One request answers for all tasks of an account, unless an adapter has to make a request for each task. It then
    says `polls_each_task = True`: each job has a schedule of its own, and `observe` is called with one task or a few,
    many times at once. Such an adapter puts an UpstreamError about one task into the answer, and raises what is about
    all.
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
class ChecksInput(Protocol):
    """An upstream that knows, without a request, some inputs that `submit` would refuse."""

    def check_input(self, input: Mapping[str, Any]) -> None:
        """Raises UsageError, as `submit` would, for an *input* that is not what it takes."""
        ...


@runtime_checkable
class Cancels(Protocol):
    """An upstream that can cancel a task."""

    async def cancel(self, task: str) -> None:
        """Ask the upstream to stop *task*. Raises UpstreamError where it did not agree."""
        ...


@runtime_checkable
class AcceptsWebhook(Protocol):
    """An upstream that calls an address when a task has news, if the submission of the task names one."""

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """*input*, asking to call *url*. Where *input* itself says whom to call, that stays."""
        ...


@runtime_checkable
class FindsSubmitted(Protocol):
    """An upstream whose tasks carry a reference of the caller: a task can be found though its submission broke off."""

    def with_reference(self, input: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        """*input*, naming its task *reference*, the id of our job. Where *input* itself names one, that stays."""
        ...

    async def find_submitted(self, reference: str) -> str | None:
        """The upstream's id of the task with this *reference*, None if there is none. Raises UpstreamError."""
        ...


@runtime_checkable
class Pushes(Protocol):
    """An upstream that can report by itself that a task has news.

    Its adapter calls *on_news*, which the relay sets before it enters the adapter, on the loop's thread. Polling stays
    the truth: all that news does is to bring the next poll forward. What listens ends where the adapter is left.
    """

    on_news: News | None


@runtime_checkable
class KeepsTasks(Protocol):
    """An upstream with a task of its own that lasts as long as it is entered, such as one that listens.

    The relay sets *supervise* before it enters the adapter. A task that the adapter starts with it is started again
    when it dies, and the operator is notified. Without a relay it is `relay.supervision.supervisor.unsupervised`.
    """

    supervise: Supervise


@runtime_checkable
class Paced(Protocol):
    """An upstream with a pace of its own, beyond an interval and a deadline."""

    pace: Pace


@runtime_checkable
class CountsRequests(Protocol):
    """An upstream that can say how many requests it has made: one poll may take several, such as a look at a file."""

    @property
    def requests(self) -> int:
        """The requests made so far, of every kind; it only grows."""
        ...


@runtime_checkable
class RotatesToken(Protocol):
    """An upstream whose token may change while jobs run, such as one that is read from a file."""

    def token_version(self) -> object:
        """A value that is equal as long as the token is the same, and reveals nothing of it."""
        ...


def polls_each_task(upstream: Upstream) -> bool:
    """Whether *upstream* needs a request for each task, which its adapter says with `polls_each_task = True`."""
    return bool(getattr(upstream, "polls_each_task", False))


def pace_of(upstream: Upstream) -> Pace:
    """The pace of *upstream*: its `pace`, or one of its interval and its deadline."""
    return (
        upstream.pace if isinstance(upstream, Paced) else Pace(interval=upstream.interval, deadline=upstream.deadline)
    )


def prompt_keys(upstream: Upstream) -> tuple[str, str | None]:
    """The keys of a submission's input that hold the prompt and the address of an image; keys are joined by dots.

    They are `prompt_at` and `image_at` of the adapter; by default the prompt is at `prompt`, and no image is accepted.
    """
    return str(getattr(upstream, "prompt_at", "prompt")), getattr(upstream, "image_at", None)
