"""Which subscriptions a record reaches: those of all jobs, those of its job's owner, and those of its job."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from relay.bus.subscription import Subscription
from relay.events import Record
from relay.jobs.state import Job

__all__ = ["Selection", "Topics"]

_Of = TypeVar("_Of", Job, str)


class Selection(NamedTuple):
    """What a subscription is for: *jobs*, or all jobs of *owner*, also those to come; or every job, if both are None.

    An owner of "" is that of the jobs that are nobody's.
    """

    jobs: tuple[Job, ...] | None = None
    owner: str | None = None


class Topics:
    """All subscriptions. A record costs three look-ups and its receivers, however many jobs, owners and topics exist.

    A topic exists while it has a subscription. An owner is one topic, not one for each of the owner's jobs: a job that
    is admitted later belongs to it without anything being done.
    """

    def __init__(self) -> None:
        self._everyone = _Topic()
        self._of_owners: dict[str, _Topic] = {}
        self._of_jobs: dict[Job, _Topic] = {}

    def __len__(self) -> int:
        """The number of topics that there are."""
        return bool(self._everyone.subscriptions) + len(self._of_owners) + len(self._of_jobs)

    def send(self, job: Job, record: Record) -> BaseException | None:
        """Send *record* to the subscriptions of all jobs, then to those of the owner, then to those of *job*.

        Return the first exception of a sink that must not be held back.
        """
        # Looked up before anything is sent: a sink may subscribe another one to them.
        topics = self._everyone, self._of_owners.get(job.owner) if self._of_owners else None, self._of_jobs.get(job)
        interruption = None
        for topic in topics:
            if topic is None:
                continue
            for subscription in topic.in_order or topic.receivers():
                raised = subscription.deliver(record)
                if raised is not None and interruption is None:
                    interruption = raised
        return interruption

    def join(self, subscription: Subscription, selection: Selection) -> None:
        """Let *subscription* receive what *selection* names, from the next record on."""
        for topic in self._opened(selection):
            topic.join(subscription)

    def leave(self, subscription: Subscription, selection: Selection) -> None:
        """Undo `join`: with its last subscription a topic is gone."""
        if selection.owner is not None:
            _leave(self._of_owners, selection.owner, subscription)
        elif selection.jobs is None:
            self._everyone.leave(subscription)
        else:
            for job in selection.jobs:
                _leave(self._of_jobs, job, subscription)

    def _opened(self, selection: Selection) -> Iterator["_Topic"]:
        if selection.owner is not None:
            yield _opened(self._of_owners, selection.owner)
        elif selection.jobs is None:
            yield self._everyone
        else:
            yield from (_opened(self._of_jobs, job) for job in selection.jobs)


class _Topic:
    """Subscriptions that receive the same records, however many they are."""

    __slots__ = ("in_order", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: dict[Subscription, None] = {}
        self.in_order: tuple[Subscription, ...] | None = ()
        """What `receivers` returns, if that is known."""

    def join(self, subscription: Subscription) -> None:
        self.subscriptions[subscription] = None
        self.in_order = None

    def leave(self, subscription: Subscription) -> None:
        del self.subscriptions[subscription]
        self.in_order = None

    def receivers(self) -> tuple[Subscription, ...]:
        """The subscriptions as they are now; one that leaves meanwhile receives nothing more by itself."""
        receivers = self.in_order
        if receivers is None:
            receivers = self.in_order = tuple(self.subscriptions)
        return receivers


def _opened(topics: dict[_Of, _Topic], of: _Of) -> _Topic:
    return topics.get(of) or topics.setdefault(of, _Topic())


def _leave(topics: dict[_Of, _Topic], of: _Of, subscription: Subscription) -> None:
    topic = topics[of]
    topic.leave(subscription)
    if not topic.subscriptions:
        del topics[of]
