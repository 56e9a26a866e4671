"""One node of a cluster: what connects a relay's bus, jobs and pollers with the journal that several nodes share."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final

from relay.bus.bus import Bus
from relay.bus.sharing import Sharing
from relay.clock import Clock
from relay.cluster._messages import Announce, Message
from relay.cluster.catching_up import CatchingUp
from relay.cluster.holdings import Holdings
from relay.cluster.mailbox import Mailbox
from relay.cluster.membership import Membership
from relay.cluster.options import ClusterOptions
from relay.cluster.requests import ClusterRequests
from relay.cluster.shards import Shards
from relay.errors import JournalError
from relay.events import Accepted, Record
from relay.jobs.registry import JobRegistry
from relay.jobs.state import Job
from relay.journal.base import StoredJob
from relay.journal.shared import SharedJournal
from relay.notices import Notify, apart
from relay.polling.poller import Poller
from relay.supervision.supervisor import Supervise, stop
from relay.upstreams.base import Upstream, polls_each_task

__all__ = ["ClusterNode"]

TIDY_EVERY: Final = 60.0
START_WITHIN: Final = 2.0

OPEN_AGAIN_AFTER: Final = 1.0
"""Seconds between two tries to reach the engine at the start."""


class ClusterNode:
    """This process as a node on *journal*, between a relay's parts and the rest of the cluster.

    In order: `connect`, `open`, `start`, and at the end `leave` and `stop`. The bus is made in between, with `sharing`.
    """

    def __init__(
        self,
        journal: SharedJournal,
        options: ClusterOptions,
        registry: JobRegistry,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
        notify: Notify,
        *,
        agree: Callable[[datetime], object] = bool,
    ) -> None:
        """*agree* is called with the engine's time of day, each time that the node has looked at the leases."""
        self.journal: SharedJournal = journal
        self._options = options
        self._registry = registry
        self._upstreams = upstreams
        self._clock = clock
        self._notify = notify
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = False
        self._listeners: dict[object, tuple[str, bool, Callable[[Mapping[str, str]], object]]] = {}
        self.started_at: float = math.inf
        """When this node began to read, in seconds since 1970."""
        self.catch_up: CatchingUp = CatchingUp(journal)
        """Waits for all that other nodes have appended up to now."""
        per_account = [name for name, upstream in upstreams.items() if not polls_each_task(upstream)]
        self.membership: Membership = Membership(
            journal.leases,
            Shards(options.shards, per_account),
            node=journal.node,
            lease=options.lease,
            clock=clock,
            on_owned=lambda shard, claimed: self._holdings.claimed(shard, claimed),
            on_lost=lambda shard: self._holdings.lost(shard),
            on_handover=lambda shard: self._holdings.hand_over(shard),
            on_time=agree,
            notify=notify,
        )
        self.sharing: Sharing = Sharing(
            fence=self.membership.fence,
            find=registry.find,
            learn=self._learn,
            stored=lambda job: self._holdings.stored(job),
            before_append=lambda epoch: self._holdings.carry_over(epoch),
            refused=self._refused,
            unattended=lambda job: self._holdings.take_up_soon(job),
            command=lambda command: self._mailbox.receive(command),
        )
        """What the bus of this node is made with."""

    def connect(
        self,
        bus: Bus,
        pollers: Mapping[str, Poller],
        *,
        take_up: Callable[[Job], object],
        let_go: Callable[[Job], object],
        address: Callable[[str, str], str | None],
        is_secret: Callable[[str], bool],
    ) -> ClusterRequests:
        """The requests of callers, on *bus*, which was made with `sharing`; *take_up* and *let_go* are the relay's."""
        self._bus = bus
        self._holdings = Holdings(
            self.journal,
            self._registry,
            bus,
            self.membership,
            self._clock,
            self._notify,
            lease=self._options.lease,
            take_up=self._take_up,
            let_go=let_go,
            busy=self._busy,
        )
        self._mailbox = Mailbox(
            self.journal.commands,
            self.journal.node,
            self._clock,
            self._notify,
            act=self._act,
            owns=self._owns,
            announced=self._heed,
        )
        self._requests = ClusterRequests(
            bus,
            self._registry,
            self._upstreams,
            pollers,
            self._clock,
            self._notify,
            membership=self.membership,
            holdings=self._holdings,
            mailbox=self._mailbox,
            resume=take_up,
            address=address,
            is_secret=is_secret,
        )
        bus.subscribe(self._requests.committed, name="tasks of other nodes", wanted=_is_news)
        return self._requests

    async def open(self, within: float) -> None:
        """Load the journal, and learn its jobs; none is polled before its shard is claimed.

        An engine that cannot be reached is tried again for *within* seconds. Raises JournalError after that, and
        ConfigError at once for what no retry mends.
        """
        last = self._clock.monotonic() + within
        while True:
            try:
                stored = await self.journal.open()
            except JournalError as error:
                if self._clock.monotonic() + OPEN_AGAIN_AFTER > last:
                    raise
                self._notify(f"{error}; it is tried again")
                await self._clock.sleep(OPEN_AGAIN_AFTER)
            else:
                break
        for job in stored:
            self._learn(job)

    async def start(self, supervise: Supervise) -> None:
        """Append and receive, take part in the cluster, and poll what is owned.

        It returns once the shards that are free for this node are claimed, or after START_WITHIN seconds of the loop's
        time: callers that come right after the start then need not wait for an owner.
        """
        self._holdings.begin()
        self.started_at = self._clock.now().timestamp()
        for name, work in (
            ("the task that appends and receives", self._bus.run),
            ("the task that renews leases", self.membership.run),
            ("the task that takes up jobs", self._holdings.run),
            ("the task that tidies the journal", self._tidy),
        ):
            task = supervise(name, work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        begun = asyncio.create_task(self._begun(), name="claim the first shards")
        await asyncio.wait([begun], timeout=START_WITHIN)
        begun.cancel()

    async def leave(self, within: float) -> None:
        """Hand over all shards, and leave the cluster, within *within* seconds of the loop's time.

        What the engine does not confirm in that time ends by itself. Records of other nodes are received until `stop`.
        Idempotent.
        """
        if self._left or not self._tasks:
            return
        self._left = True
        leaving = asyncio.create_task(self.membership.leave(), name="leave the cluster")
        await asyncio.wait([leaving], timeout=within)
        if not leaving.done():
            leaving.cancel()
            self._notify(f"this node did not leave the cluster within {within:g} s; its leases end by themselves")
        await asyncio.wait([leaving])
        if not leaving.cancelled() and (error := leaving.exception()) is not None:
            self._notify(f"this node could not leave the cluster: {error}")

    async def stop(self, within: float) -> None:
        """End all tasks of the node."""
        await self._mailbox.close()
        for name in await stop(self._tasks, within):
            self._notify(f"{name} did not end within {within:g} s, and is left as it is")

    def problems(self) -> list[str]:
        """Why this node polls nothing at present; empty while it may."""
        problem = self.membership.problem
        return [] if problem is None else [problem]

    async def _begun(self) -> None:
        await self.membership.looked.wait()
        await self._holdings.caught_up.wait()

    def _learn(self, stored: StoredJob) -> Job:
        job = Job(stored.id, stored.state, stored.owner)
        job = self._registry.learn(job, key=stored.key, digest=stored.digest)
        self._requests.arrived(job)
        if job.state.seq:
            self._holdings.note(job)
        return job

    def _take_up(self, job: Job) -> None:
        self._requests.take_up(job)

    def announce(self, topic: str, what: Mapping[str, str]) -> None:
        """Send *what* to all nodes, once; those that the engine does not reach then do not get it."""
        self._mailbox.tell(Announce(topic, {**what}))

    def when_announced(
        self, topic: str, listener: Callable[[Mapping[str, str]], object], *, own: bool = False
    ) -> Callable[[], None]:
        """Call *listener* with what other nodes announce on *topic*, until the returned function is called.

        With *own*, also with the announcements of this node: then it gets what every node gets, in the same order.
        """
        key = object()
        self._listeners[key] = (topic, own, listener)

        def leave() -> None:
            self._listeners.pop(key, None)

        return leave

    def _owns(self, shard: int) -> bool:
        return self._requests.owns(shard)

    def _heed(self, message: Announce, sender: str) -> None:
        for topic, own, listener in tuple(self._listeners.values()):
            if topic == message.topic and (own or sender != self.journal.node):
                apart(partial(listener, message.what), f"news of {topic!r} from another node", self._notify)

    async def _act(self, message: Message, sender: str) -> str | None:
        return None if isinstance(message, Announce) else await self._requests.act(message, sender)

    def _busy(self, job: Job) -> Awaitable[object] | None:
        return self._requests.busy(job)

    def _refused(self, job: Job, reason: str) -> None:
        self._holdings.refused(job, reason)

    async def _tidy(self) -> None:
        while True:
            await self._clock.sleep(TIDY_EVERY)
            if self._holdings.has(0):
                try:
                    await self.journal.tidy()
                except JournalError:
                    """The journal reports why; another round comes."""


def _is_news(record: Record) -> bool:
    return record.terminal or isinstance(record.event, Accepted)
